#!/usr/bin/env bash
# Snakemake runs this in the new environment, from the folder it was called in.
set -euo pipefail
# What lies in ~/.local would count as installed, and be missing elsewhere; and pip must not install there.
export PYTHONNOUSERSITE=1 PIP_USER=0
python -m pip install "torch>=2.6,<2.14"
python -m pip install --editable ".[analysis]" "sevenn>=0.13,<0.14"
# No environment within this one: it measures and stores the potential's bias.
crystalformer-rl potential install sevennet-0
