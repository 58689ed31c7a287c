#!/usr/bin/env bash
# Snakemake runs this in the project's folder after it has created the conda environment of bgad.yaml.
set -euo pipefail
workflow/envs/install.sh "$CONDA_PREFIX/bin/python"
