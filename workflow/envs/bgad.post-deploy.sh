#!/usr/bin/env bash
# Snakemake runs this in the project's folder, once the conda environment of bgad.yaml is there.
set -euo pipefail
"$CONDA_PREFIX/bin/python" -m pip install --quiet --requirement requirements.lock
"$CONDA_PREFIX/bin/python" -m pip install --quiet --no-deps --editable .
