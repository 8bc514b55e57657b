#!/usr/bin/env bash
# Snakemake runs this in the new environment, from the folder it was called in.
set -euo pipefail
python -m pip install --editable ".[analysis]"
