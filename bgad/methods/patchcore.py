"""PatchCore (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022) on the cached features.

It remembers a core-set of the normal patches; a patch's score is its distance to the nearest remembered one.

As in the paper: the two middle levels (strides 8 and 16, its layers 2 and 3), each patch the average of its 3 x 3
neighbourhood, the coarser level interpolated to the finer grid; a random projection to 128 channels before the greedy k-centre
selection of 10 % of the patches; maps upsampled and smoothed with sigma 4.

Unlike in the paper, the backbone is the recipe's, and its channels are not pooled to 1024. To save time, the core-set has at
most 2000 patches, selected from at most 50,000 random ones. An image's score is the maximum of its smoothed map, as for every
method here, without the re-weighting of the paper's equation 7.
"""

import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.random_projection import GaussianRandomProjection
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from bgad.methods import Images, smoothed

NAME = "PatchCore"
CORESET_SHARE = 0.1
MEMORY_MOST = 2000  # patches; the selection computes this times CANDIDATES_MOST distances, in seconds instead of minutes
CANDIDATES_MOST = 50_000
PROJECTED = 128  # channels that the selection sees
IMAGES_AT_ONCE = 16  # bounds memory, changes nothing else


def fit(images: Images, rng: torch.Generator) -> Tensor:
    """The memory, (M, C): the core-set of the patches of the normal images."""
    starts = range(0, len(images), IMAGES_AT_ONCE)
    patches = torch.cat([patch_features(images, slice(start, start + IMAGES_AT_ONCE)).flatten(0, 2) for start in starts])
    count = min(max(1, round(CORESET_SHARE * len(patches))), MEMORY_MOST)
    # In random order, so the selection starts from a random patch.
    candidates = patches[torch.randperm(len(patches), generator=rng)[:CANDIDATES_MOST].to(patches.device)]
    seed = int(torch.randint(2**32, (), generator=rng))
    return candidates[greedy_k_centre(projected(candidates, seed), count)]


def score(memory: Tensor, images: Images) -> Tensor:
    """Each patch's Euclidean distance to the nearest one in memory, as maps (N, S, S)."""
    distances = torch.stack([nearest_distances(memory, patches.flatten(0, 1)) for patches in patch_features(images)])
    side = images.levels[1].shape[1]
    return smoothed(distances.view(len(images), side, side), images.size)


def nearest_distances(memory: Tensor, patches: Tensor) -> Tensor:
    """The distance of each of ``patches`` (P, C) to the nearest row of ``memory`` (M, C): (P,) float32."""
    if memory.is_cuda:  # scikit-learn would search on the CPU, where a category's patches take seconds
        return torch.cdist(patches, memory).min(dim=1).values
    found, _ = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(memory.numpy()).kneighbors(patches.numpy())
    return torch.from_numpy(found[:, 0]).float()


def projected(vectors: Tensor, seed: int) -> Tensor:
    """``vectors`` (N, C) in PROJECTED random directions; as they are if they have no more channels than that."""
    if vectors.shape[1] <= PROJECTED:
        return vectors
    found = GaussianRandomProjection(PROJECTED, random_state=seed).fit_transform(vectors.cpu().numpy())
    return torch.from_numpy(found).to(vectors)


def patch_features(images: Images, chosen: slice = slice(None)) -> Tensor:
    """The locally aware patch features of the chosen images, (n, h, w, C) on the grid of stride 8."""
    middle, coarse = (level[chosen].permute(0, 3, 1, 2) for level in images.levels[1:])
    middle, coarse = (avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=False) for level in (middle, coarse))
    coarse = interpolate(coarse, size=middle.shape[2:], mode="bilinear", align_corners=False)
    return torch.cat([middle, coarse], dim=1).permute(0, 2, 3, 1).contiguous()


def greedy_k_centre(vectors: Tensor, count: int) -> Tensor:
    """Rows of ``vectors`` (N, C), ``count`` of them: the first, then always the one farthest from those chosen so far."""
    squares = vectors.square().sum(dim=1)
    nearest = torch.full_like(squares, torch.inf)
    chosen = torch.empty(count, dtype=torch.long, device=vectors.device)
    row = torch.tensor(0, device=vectors.device)
    for place in range(count):
        chosen[place] = row
        # |x - c|^2 = |x|^2 - 2 x c + |c|^2: one pass over the vectors.
        nearest = torch.minimum(nearest, squares - 2 * (vectors @ vectors[row]) + squares[row])
        nearest[row] = 0
        row = nearest.argmax()
    return chosen
