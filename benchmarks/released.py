"""A straightforward implementation to measure against: the released code's loop, reimplemented with the libraries it uses.

It has FrEIA's coupling blocks, the position code concatenated to every vector, backbone and image files in every pass,
scikit-learn's AUROC, and the per-region overlap at 1000 thresholds, one by one. Losses, schedule, CutPaste images and split
are this project's, so both implementations do the same work.
"""

import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import AllInOneBlock
from skimage.measure import label, regionprops
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bgad.anomalies.synthetic import SyntheticMaker
from bgad.config.settings import ImageBatches, Recipe
from bgad.data.images import resized_image, resized_mask
from bgad.data.layouts import Index
from bgad.data.splits import Split
from bgad.features.backbone import Backbone
from bgad.model.flow import ConditionalFlow
from bgad.model.position import sincos_2d
from bgad.model.scoring import anomaly_maps, image_scores
from bgad.training.losses import bgad_loss, maximum_likelihood
from bgad.training.train import learning_rate


def freia_flow(flow: ConditionalFlow, recipe: Recipe) -> SequenceINN:
    """FrEIA's network with the parameters of ``flow``."""
    sequence = SequenceINN(flow.channels)
    for _ in range(recipe.flow.blocks):
        sequence.append(
            AllInOneBlock,
            cond=0,
            cond_shape=(recipe.flow.position_channels,),
            subnet_constructor=lambda inputs, outputs: nn.Sequential(
                nn.Linear(inputs, 2 * inputs), nn.ReLU(), nn.Linear(2 * inputs, outputs)
            ),
            affine_clamping=recipe.flow.clamp,
            global_affine_type="SOFTPLUS",
            permute_soft=True,
        )
    sequence.load_state_dict(flow.state_dict())
    return sequence


def log_likelihood(sequence: SequenceINN, features: Tensor, code: Tensor) -> Tensor:
    """l of ``features`` (N, C) at their position ``code`` (N, D): (N,)."""
    z, log_det = sequence(features, [code])
    channels = features.shape[1]
    return (-0.5 * channels * np.log(2 * np.pi) - 0.5 * z.square().sum(1) + log_det) / channels


@dataclass
class ReleasedCell:
    """One cell of the straightforward implementation; ``seconds`` is the time of each part."""

    recipe: Recipe
    index: Index
    split: Split
    k: int
    category: Path
    backbone: Backbone
    sequences: list[SequenceINN]
    rng: torch.Generator
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def run(self) -> dict[str, float]:
        """Trains the cell, evaluates it after each meta epoch, and returns the last epoch's metrics in percent."""
        schedule, sampling = self.recipe.schedule, self.recipe.sampling
        assert isinstance(sampling, ImageBatches)  # the released code has no other
        parameters = [p for sequence in self.sequences for p in sequence.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=schedule.learning_rate)
        known = self.split.known(self.k)
        repeats = self.recipe.anomalies.repeat
        maker = SyntheticMaker(self.index, self.split, self.category, self.recipe.image_size)
        numpy_rng = np.random.default_rng(self.rng.initial_seed())
        for epoch in range(schedule.meta_epochs):
            for sub_epoch in range(schedule.sub_epochs):
                images = [(path, "real") for path in self.split.train_normal]
                if epoch > 0:
                    images += [(path, kind) for _ in range(repeats) for path in known for kind in ("real", "cutpaste")]
                order = torch.randperm(len(images), generator=self.rng)
                batches = order[: len(order) // sampling.images * sampling.images].split(sampling.images)
                for number, batch in enumerate(batches):
                    with self._timed("images"):
                        loaded = [
                            maker.make(kind, path, numpy_rng) if kind == "cutpaste" else self._real(path)
                            for path, kind in map(images.__getitem__, batch.tolist())
                        ]
                    with self._timed("backbone"):
                        levels = [level.clone() for level in self.backbone.features(np.stack([image for image, _ in loaded]))]
                    masks = torch.from_numpy(np.stack([mask for _, mask in loaded]))
                    rate = learning_rate(
                        self.recipe, epoch, sub_epoch * len(batches) + number, len(batches) * schedule.sub_epochs
                    )
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    with self._timed("steps"):
                        self._steps(levels, masks if epoch > 0 else None, optimizer)
            metrics = self._evaluate()
        return metrics

    def _real(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        size, mask = self.recipe.image_size, self._mask_of(path)
        empty = np.zeros((size, size), dtype=bool)
        return resized_image(self.category / path, size), resized_mask(self.category / mask, size) if mask else empty

    def _mask_of(self, path: str) -> str | None:
        return next(image.mask for image in self.index.images if image.path == path)

    def _steps(self, levels: list[Tensor], masks: Tensor | None, optimizer: torch.optim.Optimizer) -> None:
        loss_of = self.recipe.loss
        for sequence, features in zip(self.sequences, levels, strict=True):
            images, count, channels = features.shape
            side = round(count**0.5)
            code = self._code(images, side)
            flags = None
            if masks is not None:
                flags = interpolate(masks[:, None].float(), size=(side, side), mode="nearest").flatten() > 0
            vectors = features.reshape(-1, channels)
            shuffled = torch.randperm(len(vectors), generator=self.rng)
            size = self.recipe.sampling.vectors
            for chosen in shuffled[: len(vectors) // size * size].split(size):
                found = log_likelihood(sequence, vectors[chosen], code[chosen])
                if flags is None:
                    loss = maximum_likelihood(found)
                else:
                    constants = (loss_of.beta, loss_of.tau, loss_of.normalizer, loss_of.push_pull_weight, loss_of.focal)
                    loss = bgad_loss(found, flags[chosen], *constants)
                optimizer.zero_grad(set_to_none=not self.recipe.quirks.idle_levels_keep_momentum)
                loss.backward()
                optimizer.step()

    def _code(self, images: int, side: int) -> Tensor:
        """The position code of every vector of that many maps, (images * side * side, D)."""
        return sincos_2d(self.recipe.flow.position_channels, side, side).flatten(1).T.repeat(images, 1)

    def _evaluate(self) -> dict[str, float]:
        paths = self.split.test(self.k)
        sampling, size, masks = self.recipe.sampling, self.recipe.image_size, []
        assert isinstance(sampling, ImageBatches)
        likelihoods: list[list[Tensor]] = [[], [], []]
        with self._timed("evaluation: likelihoods"), torch.no_grad():
            for start in range(0, len(paths), sampling.images):
                loaded = [self._real(path) for path in paths[start : start + sampling.images]]
                masks += [mask for _, mask in loaded]
                levels = self.backbone.features(np.stack([image for image, _ in loaded]))
                for found, sequence, features in zip(likelihoods, self.sequences, levels, strict=True):
                    images, count, channels = features.shape
                    side = round(count**0.5)
                    code = self._code(images, side)
                    found.append(log_likelihood(sequence, features.reshape(-1, channels), code).view(images, side, side))
        maps = anomaly_maps([torch.cat(found) for found in likelihoods], size)
        types = {image.path: image.type for image in self.index.images}
        anomalous = np.array([types[path] != "good" for path in paths])
        defects, scores = np.stack(masks), image_scores(maps).numpy()
        with self._timed("evaluation: metrics"):
            return metrics(defects, maps.numpy(), anomalous, scores)

    @contextmanager
    def _timed(self, what: str):
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start


def metrics(masks: np.ndarray, maps: np.ndarray, anomalous: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Image and pixel AUROC from scikit-learn and the 1000-threshold PRO, in percent."""
    return {
        "image_auroc": 100 * roc_auc_score(anomalous, scores),
        "pixel_auroc": 100 * roc_auc_score(masks.ravel(), maps.ravel()),
        "released_pro": 100 * per_region_overlap(masks, maps),
    }


def per_region_overlap(masks: np.ndarray, maps: np.ndarray, thresholds: int = 1000, max_fpr: float = 0.3) -> float:
    """Area under the curve of mean region overlap against false positive rate, up to ``max_fpr``, threshold by threshold.

    ``masks`` (N, H, W) bool, ``maps`` (N, H, W). Thresholds are evenly spaced between the lowest and the highest score.
    """
    low, high = maps.min(), maps.max()
    means, rates, normal = [], [], ~masks
    for threshold in np.arange(low, high, (high - low) / thresholds):
        found = maps > threshold
        of_regions = []
        for binary, mask in zip(found, masks, strict=True):
            for region in regionprops(label(mask)):
                rows, columns = region.coords[:, 0], region.coords[:, 1]
                of_regions.append(binary[rows, columns].sum() / region.area)
        means.append(np.mean(of_regions))
        rates.append((normal & found).sum() / normal.sum())
    kept = np.array(rates) <= max_fpr
    x, y = np.array(rates)[kept], np.array(means)[kept]
    order = np.argsort(x, kind="stable")
    return float(np.trapezoid(y[order], x[order] / x.max()))
