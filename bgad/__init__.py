"""BGAD (Yao et al., CVPR 2023) as a reproducible benchmark: train, evaluate, and compare with the published numbers."""

import os

# PyTorch's threads sleep when they wait, instead of taking a core from those that run compiled code; read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# No library that comes with this one reports to anybody: albumentations asks at import for a newer version of itself, and the
# Hugging Face hub's client says with each request what runs it.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# And that client fetches files in its plain way, whose every address is looked at (weights.py).
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

__version__ = "0.1.0"
