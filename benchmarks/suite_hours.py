"""How long each suite should take: its steps, counted exactly, times the time of one step measured on this machine.

    python benchmarks/suite_hours.py [SUITE ...] [--device cuda] [--step-ms 5 --image-ms 5]

An estimate, not a measurement. Single steps are timed with random weights and data of the right shapes, best of several tries:
in processor time on a CPU (giving core hours), in wall time on a GPU. Reading files, metrics and Snakemake are not included.
--step-ms and --image-ms replace the times of a flow step and of a backbone image, to estimate another device. One core makes
the synthetic images in any case.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from tabulate import tabulate

from bgad import devices
from bgad.anomalies.cutpaste import cut_paste, foreground
from bgad.anomalies.pseudo import pseudo_anomaly
from bgad.config import paths
from bgad.config.cells import Cell, expand
from bgad.config.methods import PAPER_METHODS
from bgad.config.settings import Config, Dataset, ImageBatches, Recipe, load_recipe, load_suite, read_yaml, validated
from bgad.data import mini
from bgad.data.download import presets
from bgad.data.layouts import NORMAL, catalogue, image_files
from bgad.features.backbone import LEVELS, STRIDES
from bgad.methods.bgad import build_flows
from bgad.randomness import frozen_generator, numpy_generator, torch_generator
from bgad.training.losses import bgad_loss

SIDE_OF_IMAGES = 1000  # pixels; MVTec AD's images are 700 to 1024 wide, and CutPaste works on them at full size
POOL = 10  # known anomalies of which a split's pool of synthetic images is made


class Counts(NamedTuple):
    """Images of a category: normal training images, and test images."""

    train: int
    test: int


CountsOf = Callable[[str, str], Counts]  # (data set, category)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config = validated(Config, read_yaml(Path("config/config.yaml")), "config/config.yaml")
    parser.add_argument("suites", nargs="*", help="by default, all whose data sets are configured")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--step-ms", type=float)
    parser.add_argument("--image-ms", type=float)
    options = parser.parse_args()
    device = devices.choose(options.device, options.threads)

    rows, counts = [], cache(lambda dataset, category: counts_of(dataset, config.datasets[dataset], category))
    suites = {name: load_suite(Path(f"config/suites/{name}.yaml")) for name in options.suites or config.suites}
    for name, suite in suites.items():
        if not options.suites and not {block.dataset for block in suite.grid} <= config.datasets.keys():
            continue
        every = expand(suite, lambda dataset: catalogue(dataset, config.datasets[dataset]))
        cells = [cell for cell in every if cell.method in PAPER_METHODS]  # other methods have no steps to count
        made = dict.fromkeys([*cells, *(cell.training for cell in cells)])
        work = sum((work_of(cell, counts) for cell in made), Counter()) + shared_work(cells, counts)
        hours: defaultdict[str, float] = defaultdict(float)
        totals: Counter[str] = Counter()
        for (what, *of), count in work.items():
            hours[what] += count * seconds_of(device, options.step_ms, options.image_ms, what, *of) / 3600
            totals[what] += count
        shown = [f"{hours[what]:.2g}" for what in ("step", "synthetic", "image", "evaluation")]
        rows.append([name, len(cells), f"{totals['step']:,}", f"{totals['synthetic']:,}", *shown, f"{sum(hours.values()):.3g}"])
    print(f"{devices.describe(device)}, step {options.step_ms or 'measured'} ms, image {options.image_ms or 'measured'} ms")
    heads = ["suite", "cells", "steps", "synthetic images", "h steps", "h synthetic", "h backbone", "h evaluation", "h total"]
    print(tabulate(rows, heads, tablefmt="pipe", colalign=["left"] + ["right"] * 8, disable_numparse=True))


# What a suite does


def work_of(cell: Cell, counts: CountsOf) -> Counter:
    """The work of one cell: {("step", recipe, level): n, ("synthetic", kind): n, ("image" or "evaluation", recipe): n}."""
    recipe, (train, test) = recipe_of(cell.recipe), counts(cell.dataset, cell.category)
    schedule, kinds = recipe.schedule, recipe.anomalies.kinds
    entries = recipe.anomalies.repeat * cell.k * (1 + len(kinds)) if cell.method == "bgad" else 0
    work: Counter[tuple] = Counter()
    for epoch in range(schedule.meta_epochs if cell == cell.training else 0):
        for level, steps in enumerate(steps_of_pass(recipe, train, entries if epoch else 0)):
            work["step", cell.recipe, level] += schedule.sub_epochs * steps
    if entries and recipe.anomalies.synthetic == "every_pass":
        fresh = recipe.anomalies.repeat * cell.k * (schedule.meta_epochs - 1) * schedule.sub_epochs
        for kind in kinds:
            work["synthetic", kind] += fresh
            work["image", cell.recipe] += fresh
    work["evaluation", cell.recipe] += -(-schedule.meta_epochs // schedule.evaluate_every) * test
    return work


def shared_work(cells: Iterable[Cell], counts: CountsOf) -> Counter:
    """What cells share, counted once for one of their recipes: a category's features and a split's pools."""
    features, pools = {}, {}
    for cell in cells:
        recipe, category = recipe_of(cell.recipe), (cell.dataset, cell.category)
        network = (recipe.backbone, recipe.image_size)
        features[network, category] = cell.recipe
        if cell.k and recipe.anomalies.synthetic == "pool":
            for kind in recipe.anomalies.kinds:
                pools[network, category, cell.split, cell.seed, kind, recipe.anomalies.pool] = cell.recipe
    work: Counter[tuple] = Counter()
    for (_, category), name in features.items():
        work["image", name] += sum(counts(*category))
    for (*_, kind, each), name in pools.items():
        work["synthetic", kind] += POOL * each
        work["image", name] += POOL * each
    return work


def steps_of_pass(recipe: Recipe, normals: int, entries: int) -> list[int]:
    """Optimizer steps of each level in one pass over the data, as in bgad/training/sampling.py."""
    sampling, vectors = recipe.sampling, [(recipe.image_size // stride) ** 2 for stride in STRIDES]
    if isinstance(sampling, ImageBatches):
        batches = (normals + entries) // sampling.images
        return [batches * (sampling.images * count // sampling.vectors) for count in vectors]
    if sampling.level_steps is not None:
        return list(sampling.level_steps)
    assert sampling.level_shares is not None  # a recipe has one of the two
    from_normal = sampling.vectors - (round(sampling.vectors * sampling.anomaly_share) if entries else 0)
    shares = zip(vectors, sampling.level_shares, strict=True)
    return [max(1, int(normals * count * share) // from_normal) for count, share in shares]


def counts_of(name: str, dataset: Dataset, category: str) -> Counts:
    """Counted in the folders of a configured copy, otherwise taken from what is published about the data set."""
    if dataset.path is not None:
        folder = Path(dataset.path) / category
        return Counts(len(image_files(folder, "train", NORMAL[dataset.layout])), len(image_files(folder, "test")))
    if name == "mini":
        defects = len(mini.CATEGORIES[category]) * mini.COUNTS["test", "defect"]
        return Counts(mini.COUNTS["train", "good"], mini.COUNTS["test", "good"] + defects)
    preset = presets.dataset(name)
    assert preset is not None  # a data set without a path is mini or published
    counts = preset.counts[category]
    return Counts(counts["train"], sum(counts.values()) - counts["train"])


@cache
def recipe_of(name: str) -> Recipe:
    return load_recipe(paths.recipe_file(name))


# What a step takes


@dataclass(frozen=True)
class Bench:
    """A backbone and flows with random weights."""

    network: torch.nn.Module
    flows: list
    channels: list[int]


@cache
def bench(recipe_name: str) -> Bench:
    import timm
    from timm.models import FeatureInfo

    recipe = recipe_of(recipe_name)
    network = timm.create_model(recipe.backbone, features_only=True, out_indices=LEVELS, pretrained=False).eval()
    channels = list(cast(FeatureInfo, network.feature_info).channels())
    sides = [recipe.image_size // stride for stride in STRIDES]
    return Bench(network, build_flows(recipe, channels, sides, torch_generator("b"), frozen_generator("b")), channels)


def seconds_of(device: torch.device, step_ms: float | None, image_ms: float | None, what: str, *of) -> float:
    """Seconds of one step of a level, one synthetic image, one image through the backbone, or one evaluated image."""
    if what == "synthetic":
        return synthetic_seconds(*of)
    if step_ms and what == "step":
        return step_ms / 1000
    if image_ms and what in ("image", "evaluation"):
        return image_ms / 1000
    recipe, *level = of
    return measured(device, alike(recipe), what, *level)


@cache
def alike(name: str) -> str:
    """The first recipe whose steps take as long as those of ``name``: of the same networks and sizes."""

    def sizes(of: str) -> tuple:
        recipe = recipe_of(of)
        return recipe.backbone, recipe.image_size, recipe.flow, recipe.sampling.vectors

    names = sorted(path.stem for path in paths.recipe_file(name).parent.glob("*.yaml"))
    return next(other for other in names if sizes(other) == sizes(name))


@cache
def measured(device: torch.device, recipe_name: str, what: str, level: int = 0) -> float:
    recipe, setting = recipe_of(recipe_name), bench(recipe_name)
    side, vectors = recipe.image_size, recipe.sampling.vectors
    if what == "image":
        network, images = setting.network.to(device), torch.randn(4, 3, side, side, device=device)
        with torch.inference_mode():
            return best_of(lambda: network(images), device) / len(images)
    if what == "evaluation":
        sides = [side // stride for stride in STRIDES]
        maps = [torch.randn(4, side**2, c, device=device) for side, c in zip(sides, setting.channels, strict=True)]
        flows = [flow.to(device) for flow in setting.flows]
        with torch.inference_mode():
            return best_of(lambda: [f.log_likelihood_maps(m) for f, m in zip(flows, maps, strict=True)], device) / 4
    flow, features = setting.flows[level].to(device), torch.randn(vectors, setting.channels[level], device=device)
    position = torch.randint((side // STRIDES[level]) ** 2, (vectors,), device=device)
    optimizer = torch.optim.Adam([p for p in flow.parameters() if p.requires_grad], lr=1e-6, fused=True)

    def step():
        optimizer.zero_grad()
        bgad_loss(flow.log_likelihood(features, position), position % 9 == 0, **recipe.loss.model_dump()).backward()
        optimizer.step()

    return best_of(step, device)


@cache
def synthetic_seconds(kind: str) -> float:
    """A synthetic image at full resolution: a disc with a scratch."""
    rng, side = numpy_generator("suite hours"), SIDE_OF_IMAGES
    y, x = np.mgrid[:side, :side] - side // 2
    normal = np.where((x**2 + y**2 < (0.4 * side) ** 2)[..., None], rng.integers(0, 90, (side, side, 3)), 220).astype(np.uint8)
    mask = (abs(x - y) < side // 50) & (abs(x) < side // 8)
    anomalous = np.where(mask[..., None], 255 - normal, normal)

    def make():
        if kind == "pseudo":
            return pseudo_anomaly(normal, anomalous, rng)
        return cut_paste(normal, foreground(normal, texture=False), anomalous, mask, rng)

    # Draws differ in cost, so this is a mean, not a minimum.
    make()
    start = time.process_time()
    for _ in range(20):
        make()
    return (time.process_time() - start) / 20


def best_of(function, device: torch.device, tries: int = 7) -> float:
    on_gpu, times = device.type == "cuda", []
    clock = time.perf_counter if on_gpu else time.process_time
    for _ in range(tries):
        start = clock()
        function()
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append(clock() - start)
    return min(times[1:])


if __name__ == "__main__":
    main()
