"""The frozen features of images: backbones, their weights, and the cache."""

LEVELS = (1, 2, 3)  # timm's out_indices
STRIDES = (4, 8, 16)  # pixels between two vectors of each level
