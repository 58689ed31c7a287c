"""BGAD (Yao et al., CVPR 2023) as a reproducible benchmark: train, evaluate, and compare with the published numbers."""

__version__ = "0.1.0"
