"""How long each suite should take: its steps, counted exactly, times the times of one step measured on this machine.

    python benchmarks/suite_hours.py [SUITE ...] [--device cuda] [--step-ms 5 --image-ms 5]
    python benchmarks/suite_hours.py --write bgad/cli/doctor/step_times.yaml      what `bgad doctor` takes where nothing is measured

An estimate, not a measurement: single steps are timed with random weights and data of the right shapes, the best of several
tries, in processor time on a CPU (so in core hours) and in wall time on a GPU; nothing is counted for reading files, metrics
and Snakemake. With --step-ms and --image-ms the times of a flow step and of a backbone image are assumed instead, to say
what another device would make of it; the synthetic images are made by one core in any case.
"""

import argparse
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
import yaml
from tabulate import tabulate

from bgad import devices
from bgad.anomalies.cutpaste import cut_paste, foreground
from bgad.anomalies.pseudo import pseudo_anomaly
from bgad.cli.doctor.hours import counts_of, recipe_of, shared_work, work_of
from bgad.config.cells import expand
from bgad.config.methods import PAPER_METHODS
from bgad.config.settings import STRATEGIES, Config, Recipe, load_suite, read_yaml, validated
from bgad.data.layouts import catalogue
from bgad.features.backbone import LEVELS, STRIDES
from bgad.io import write_text
from bgad.randomness import frozen_generator, numpy_generator, torch_generator
from bgad.training.sampling import MiniBatch
from bgad.training.train import build_flows, step_loss

SIDE_OF_IMAGES = 1000  # pixels; MVTec AD's images are 700 to 1024 wide, and CutPaste works on them as they are


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    config = validated(Config, read_yaml(Path("config/config.yaml")), "config/config.yaml")
    parser.add_argument("suites", nargs="*", default=config.suites)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--step-ms", type=float)
    parser.add_argument("--image-ms", type=float)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    device = devices.choose(options.device, options.threads)
    if options.write:
        write_times(options.write, device)
        return

    rows, counts = [], cache(lambda dataset, category: counts_of(dataset, config.datasets[dataset], category))
    for name in options.suites:
        suite = load_suite(Path(f"config/suites/{name}.yaml"))
        every = expand(suite, lambda dataset: catalogue(dataset, config.datasets[dataset]))
        cells = [cell for cell in every if cell.method in PAPER_METHODS]  # a detector has no steps to count
        work = sum((work_of(cell, counts) for cell in cells), Counter()) + shared_work(cells, counts)
        hours: defaultdict[str, float] = defaultdict(float)
        for (what, *of), count in work.items():
            hours[what] += count * seconds_of(device, options.step_ms, options.image_ms, what, *of) / 3600
        totals: Counter[str] = Counter()
        for (what, *_), count in work.items():
            totals[what] += count
        shown = [f"{hours[what]:.2g}" for what in ("step", "synthetic", "image", "evaluation")]
        rows.append([name, len(cells), f"{totals['step']:,}", f"{totals['synthetic']:,}", *shown, f"{sum(hours.values()):.3g}"])
    print(f"{devices.describe(device)}, step {options.step_ms or 'measured'} ms, image {options.image_ms or 'measured'} ms")
    heads = ["suite", "cells", "steps", "synthetic images", "h steps", "h synthetic", "h backbone", "h evaluation", "h in all"]
    print(tabulate(rows, heads, tablefmt="pipe", colalign=["left"] + ["right"] * 8, disable_numparse=True))


def write_times(path: Path, device: torch.device) -> None:
    """The times of every network of the recipes, as bgad/cli/doctor/hours.py reads them."""
    networks = {}
    for recipe in map(recipe_of, recipe_names()):
        key = {
            "backbone": recipe.backbone,
            "image_size": recipe.image_size,
            "blocks": recipe.flow.blocks,
            "vectors": recipe.sampling.vectors,
        }
        time_of = partial(measured, device, *key.values())
        setting = bench(*list(key.values())[:3])
        tensors = [tensor for flow in setting.flows for tensor in flow.state_dict().values()]
        networks[tuple(key.values())] = {
            **key,
            "image_s": round(time_of("image"), 4),
            "evaluation_s": round(time_of("evaluation"), 4),
            "step_s": [round(time_of("step", level), 4) for level in range(len(STRIDES))],
            "channels": setting.channels,
            "model_bytes": sum(tensor.nbytes for tensor in tensors),
        }
    kinds = sorted({kind for kinds in STRATEGIES.values() for kind in kinds})
    found = {
        "machine": f"one core of {devices.describe(device)['cpu']}, {date.today()}",
        "synthetic_s": {kind: round(synthetic_seconds(kind), 4) for kind in kinds},
        "networks": list(networks.values()),
    }
    head = "# Seconds of single steps, best of several. Written by `python benchmarks/suite_hours.py --write`.\n"
    write_text(path, head + yaml.safe_dump(found, sort_keys=False))


@dataclass(frozen=True)
class Bench:
    """A recipe's backbone and flows with random weights."""

    recipe: Recipe
    network: torch.nn.Module
    flows: list
    channels: list[int]


@cache
def bench(backbone: str, image_size: int, blocks: int) -> Bench:
    import timm
    from timm.models import FeatureInfo

    recipe = next(
        r for r in map(recipe_of, recipe_names()) if (r.backbone, r.image_size, r.flow.blocks) == (backbone, image_size, blocks)
    )
    network = timm.create_model(backbone, features_only=True, out_indices=LEVELS, pretrained=False).eval()
    channels = list(cast(FeatureInfo, network.feature_info).channels())
    sides = [image_size // stride for stride in STRIDES]
    return Bench(recipe, network, build_flows(recipe, channels, sides, torch_generator("b"), frozen_generator("b")), channels)


def recipe_names() -> list[str]:
    return sorted(path.stem for path in Path("config/recipes").glob("*.yaml"))


@cache
def seconds_of(device: torch.device, step_ms: float | None, image_ms: float | None, what: str, *of) -> float:
    """Seconds of one step of a level, one synthetic image, one image through the backbone, or one evaluated image."""
    if what == "synthetic":
        return synthetic_seconds(*of)
    if step_ms and what == "step":
        return step_ms / 1000
    if image_ms and what in ("image", "evaluation"):
        return image_ms / 1000
    recipe = recipe_of(of[0])
    return measured(device, recipe.backbone, recipe.image_size, recipe.flow.blocks, recipe.sampling.vectors, what, *of[1:])


@cache
def measured(device, backbone: str, image_size: int, blocks: int, vectors: int, what: str, level: int = 0) -> float:
    setting = bench(backbone, image_size, blocks)
    if what == "image":
        network, images = setting.network.to(device), torch.randn(4, 3, image_size, image_size, device=device)
        with torch.inference_mode():
            return best_of(lambda: network(images), device) / len(images)
    if what == "evaluation":
        sides = [image_size // stride for stride in STRIDES]
        maps = [torch.randn(4, side**2, c, device=device) for side, c in zip(sides, setting.channels, strict=True)]
        flows = [flow.to(device) for flow in setting.flows]
        with torch.inference_mode():
            return best_of(lambda: [f.log_likelihood_maps(m) for f, m in zip(flows, maps, strict=True)], device) / 4
    flow, channels = setting.flows[level].to(device), setting.channels[level]
    position = torch.randint((image_size // STRIDES[level]) ** 2, (vectors,), device=device)
    batch = MiniBatch(level, torch.randn(vectors, channels, device=device), position, position % 9 == 0, 0, 1)
    optimizer = torch.optim.Adam([p for p in flow.parameters() if p.requires_grad], lr=1e-6, fused=True)

    def step():
        optimizer.zero_grad()
        step_loss(setting.recipe, "bgad", 1, flow, batch).backward()
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

    # Draws differ in what they cost, so the mean counts here.
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
