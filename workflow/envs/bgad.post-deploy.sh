#!/usr/bin/env bash
# Snakemake runs this in the project's folder, once the conda environment of bgad.yaml is there.
set -euo pipefail
workflow/envs/install.sh "$CONDA_PREFIX/bin/python"
