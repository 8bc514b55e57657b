#!/usr/bin/env bash
# Snakemake runs this in the new environment, from the folder it was called in.
set -euo pipefail
# What lies in ~/.local would count as installed, and be missing elsewhere; and pip must not install there.
export PYTHONNOUSERSITE=1 PIP_USER=0
python -m pip install --editable ".[potential]"
