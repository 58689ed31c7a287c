"""BGAD (Yao et al., CVPR 2023) as a reproducible benchmark: train, evaluate, and compare with the published numbers."""

import os

# PyTorch's threads sleep when they wait, instead of taking a core from those that run compiled code; read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
