"""How much work a suite is: its steps, counted as the code takes them, and how long one took on the machine that measured it.

step_times.yaml holds what benchmarks/suite_hours.py measured there, in single steps with random weights on one core.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.methods import PAPER_METHODS
from bgad.config.settings import Dataset, ImageBatches, Recipe, load_recipe
from bgad.data import mini
from bgad.data.download import presets
from bgad.data.layouts import NORMAL, image_files

STRIDES = (4, 8, 16)  # as in bgad.features.backbone, which imports torch


class Counts(NamedTuple):
    """Images of a category: normal ones to train on, and test images."""

    train: int
    test: int


CountsOf = Callable[[str, str], Counts]  # (data set, category)


class Times(BaseModel, frozen=True, extra="forbid"):
    """Of the recipes with this network: seconds of an image through the backbone, of an image evaluated, and of an optimizer
    step of each level; the channels of the levels, and the bytes of a trained model."""

    backbone: str
    image_size: int
    blocks: int
    vectors: int
    image_s: float
    evaluation_s: float
    step_s: tuple[float, float, float]
    channels: tuple[int, int, int]
    model_bytes: int

    @property
    def image_bytes(self) -> int:
        """Of an image's vectors in the feature cache."""
        return sum(4 * count * size for count, size in zip(vectors_of(self.image_size), self.channels, strict=True))


class StepTimes(BaseModel, frozen=True, extra="forbid"):
    """``machine``: which, and when; ``synthetic_s``: seconds of a synthetic image of each kind."""

    machine: str
    synthetic_s: dict[str, float]
    networks: list[Times]

    def of(self, recipe: Recipe) -> Times | None:
        """None for a recipe whose network was not measured."""
        key = (recipe.backbone, recipe.image_size, recipe.flow.blocks, recipe.sampling.vectors)
        return next((one for one in self.networks if (one.backbone, one.image_size, one.blocks, one.vectors) == key), None)

    def seconds(self, work: Counter) -> float | None:
        """Of all ``work``; None where a part of it was not measured."""
        total = 0.0
        for (what, of, *level), count in work.items():
            if what == "detector":  # of whose steps nothing is known
                return None
            if what == "synthetic":
                total += count * self.synthetic_s[of]
                continue
            if (times := self.of(recipe_of(of))) is None:
                return None
            total += count * {"image": times.image_s, "evaluation": times.evaluation_s}.get(
                what, times.step_s[(level or [0])[0]]
            )
        return total


@cache
def step_times() -> StepTimes:
    with Path(__file__).with_name("step_times.yaml").open(encoding="utf-8") as file:
        return StepTimes(**yaml.safe_load(file))


def work_of(cell: Cell, counts: CountsOf) -> Counter:
    """What one cell does: {("step", recipe, level): n, ("synthetic", kind): n, ("image", recipe): n, ...}; of a detector,
    which has no steps, {("detector", method): images}."""
    recipe, (train, test) = recipe_of(cell.recipe), counts(cell.dataset, cell.category)
    if cell.method not in PAPER_METHODS:
        return Counter({("detector", cell.method): train + test})
    schedule, kinds = recipe.schedule, recipe.anomalies.kinds
    entries = recipe.anomalies.repeat * cell.k * (1 + len(kinds)) if cell.method == "bgad" else 0
    work: Counter[tuple] = Counter()
    for epoch in range(schedule.meta_epochs):
        steps = steps_of_pass(recipe, train, entries if epoch else 0)
        for level, count in enumerate(steps):
            work["step", cell.recipe, level] += schedule.sub_epochs * count
    if entries and recipe.anomalies.synthetic == "every_pass":
        fresh = recipe.anomalies.repeat * cell.k * (schedule.meta_epochs - 1) * schedule.sub_epochs
        for kind in kinds:
            work["synthetic", kind] += fresh
            work["image", cell.recipe] += fresh
    work["evaluation", cell.recipe] += -(-schedule.meta_epochs // schedule.evaluate_every) * test
    return work


def shared_work(cells: Iterable[Cell], counts: CountsOf) -> Counter:
    """What cells share: the features of a category and the pools of a split, each once, in the name of a recipe that has it."""
    features, pools = {}, {}
    for cell in cells:
        recipe, category = recipe_of(cell.recipe), (cell.dataset, cell.category)
        network = (recipe.backbone, recipe.image_size)
        features[network, category] = cell.recipe
        if cell.k and cell.method in PAPER_METHODS and recipe.anomalies.synthetic == "pool":
            for kind in recipe.anomalies.kinds:
                pools[network, category, cell.split, cell.seed, kind, recipe.anomalies.pool] = cell.recipe
    work: Counter[tuple] = Counter()
    for (_, category), name in features.items():
        work["image", name] += sum(counts(*category))
    for (*_, kind, each), name in pools.items():
        work["synthetic", kind] += 10 * each
        work["image", name] += 10 * each
    return work


def steps_of_pass(recipe: Recipe, normals: int, entries: int) -> list[int]:
    """Optimizer steps of each level in a pass over the data, as bgad/training/sampling.py cuts it."""
    sampling, vectors = recipe.sampling, vectors_of(recipe.image_size)
    if isinstance(sampling, ImageBatches):
        batches = (normals + entries) // sampling.images
        return [batches * (sampling.images * count // sampling.vectors) for count in vectors]
    from_normal = sampling.vectors - (round(sampling.vectors * sampling.anomaly_share) if entries else 0)
    shares = zip(vectors, sampling.level_shares, strict=True)
    return [max(1, int(normals * count * share) // from_normal) for count, share in shares]


def vectors_of(image_size: int) -> list[int]:
    """Vectors of an image at each level."""
    return [(image_size // stride) ** 2 for stride in STRIDES]


def counts_of(name: str, dataset: Dataset, category: str) -> Counts:
    """Counted in the folders of a copy that the configuration names, else from what is known of the data set."""
    if dataset.path is not None:
        folder = Path(dataset.path) / category
        return Counts(len(image_files(folder, "train", NORMAL[dataset.layout])), len(image_files(folder, "test")))
    if name == "mini":
        defects = len(mini.CATEGORIES[category]) * mini.COUNTS["test", "defect"]
        return Counts(mini.COUNTS["train", "good"], mini.COUNTS["test", "good"] + defects)
    preset = presets.dataset(name)
    assert preset is not None  # what has no path is mini or published
    counts = preset.counts[category]
    return Counts(counts["train"], sum(counts.values()) - counts["train"])


@cache
def recipe_of(name: str) -> Recipe:
    return load_recipe(paths.recipe_file(name))
