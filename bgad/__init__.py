"""BGAD (Yao et al., CVPR 2023) as a reproducible benchmark: train, evaluate, and compare with the published numbers."""

import os

# PyTorch's threads sleep while they wait, which leaves their cores to compiled code. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# No library reports home: albumentations looks for a newer version at import, and the Hugging Face hub's client sends what runs
# it with each request.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# The client must not use its Xet protocol, which contacts addresses that features/weights.py could not check.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

__version__ = "0.1.0"
