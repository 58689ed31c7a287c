"""PaDiM (Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", ICPR 2020
workshops) on the cached features.

Each position of the image has a Gaussian; a patch's score is its Mahalanobis distance to the Gaussian at its position.

As in the paper: all three levels on the finest grid (a coarse vector counts for all positions that it covers), 100 channels
drawn at random, covariance + 0.01 I, maps upsampled and smoothed with sigma 4, an image's score the maximum of its map.

Unlike in the paper, the backbone is the recipe's, and positions are processed in strips of the image, to keep memory from
growing with images times positions.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.linalg import cholesky, solve_triangular

from bgad.methods import Images, smoothed

NAME = "PaDiM"
CHANNELS = 100
EPSILON = 0.01


def fit(images: Images, rng: torch.Generator) -> dict[str, Tensor]:
    """``channels`` (d,), and for each of P positions ``mean`` (P, d) and ``whitening`` (P, d (d + 1) / 2): the lower triangle
    of W = L^-1, where the covariance is L L^T, so that the Mahalanobis distance of x is |W (x - mean)|."""
    total = sum(level.shape[3] for level in images.levels)
    channels = torch.randperm(total, generator=rng)[:CHANNELS].to(images.levels[0].device)
    means, whitenings = [], []
    for vectors in strips(images, channels):
        mean = vectors.mean(dim=1)
        inverse = _inverse_factor(covariance(vectors, mean))
        means.append(mean.float())
        rows, columns = torch.tril_indices(*inverse.shape[1:])
        whitenings.append(inverse[:, rows, columns].float())
    return {"channels": channels, "mean": torch.cat(means), "whitening": torch.cat(whitenings)}


def score(model: dict[str, Tensor], images: Images) -> Tensor:
    """The Mahalanobis distance of each position, as maps (N, S, S)."""
    side, distances, start = images.levels[0].shape[1], [], 0
    for vectors in strips(images, model["channels"]):
        positions = slice(start, start + len(vectors))
        whitening = _unpacked(model["whitening"][positions], vectors.shape[2])
        offsets = vectors.float() - model["mean"][positions, None]
        # One image at a time: the rounding of one product over all images would depend on their number.
        distances.append(torch.stack([(whitening @ offset[..., None]).norm(dim=1) for offset in offsets.unbind(1)]))
        start += len(vectors)
    return smoothed(torch.cat(distances, dim=1).reshape(len(images), side, -1), images.size)


def strips(images: Images, channels: Tensor) -> Iterator[Tensor]:
    """The chosen channels of all images, (positions, N, d) float64, one row of the coarsest level at a time."""
    coarse_rows = images.levels[-1].shape[1]
    for row in range(coarse_rows):
        parts = []
        for level in images.levels:
            high = level.shape[1] // coarse_rows
            part, times = level[:, row * high : (row + 1) * high], images.levels[0].shape[1] // level.shape[1]
            parts.append(part.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2))
        yield torch.cat(parts, dim=3)[..., channels].flatten(1, 2).transpose(0, 1).double()


def covariance(vectors: Tensor, mean: Tensor) -> Tensor:
    """The covariance of each position's ``vectors`` (P, N, d) + EPSILON I: (P, d, d)."""
    centred = vectors - mean[:, None]
    identity = torch.eye(vectors.shape[2], dtype=vectors.dtype, device=vectors.device)
    return centred.mT @ centred / max(vectors.shape[1] - 1, 1) + EPSILON * identity


def _inverse_factor(matrices: Tensor) -> Tensor:
    """L^-1 of each matrix L L^T: (P, d, d)."""
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    return solve_triangular(cholesky(matrices), identity, upper=False)


def _unpacked(triangles: Tensor, size: int) -> Tensor:
    """Lower triangles (P, d (d + 1) / 2) as matrices (P, d, d)."""
    matrices = triangles.new_zeros(len(triangles), size, size)
    rows, columns = torch.tril_indices(size, size)
    matrices[:, rows, columns] = triangles
    return matrices
