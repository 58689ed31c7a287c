"""A cell of the paper's shape with random features, for gpu.py: its passes, its evaluation, its memory; and several at once.

The shapes are those of MVTec AD's bottle: 209 normal images, 10 known anomalies as 50 real and 50 CutPaste entries a pass, 83
test images. A complete cell is extrapolated from a few passes.
"""

import time
from dataclasses import dataclass
from itertools import pairwise, repeat

import numpy as np
import psutil
import torch
import torch.multiprocessing as processes
from torch import Tensor

from bgad import devices
from bgad.anomalies.synthetic import AnomalousImages
from bgad.config.settings import Recipe
from bgad.evaluation.evaluate import TestSet, evaluate
from bgad.features.backbone import STRIDES
from bgad.methods.bgad import build_flows
from bgad.methods.runner import IMAGES_AT_ONCE
from bgad.model.flow import ConditionalFlow
from bgad.randomness import frozen_generator, torch_generator
from bgad.training.train import Epochs, train

BACKBONES = {"tf_efficientnet_b6": (40, 72, 200), "tf_efficientnet_lite0": (24, 40, 112)}
PAPERS = "tf_efficientnet_b6"


@dataclass(frozen=True)
class Size:
    """The amount of work: images of bottle, its known anomalies, and repetitions."""

    normal: int = 209
    known: int = 10
    test: int = 83
    side: int = 900  # pixels of an image, before resizing
    steps: int = 100
    passes: int = 2
    at_once: tuple[int, ...] = (1, 2, 4, 8)  # cells


QUICK = Size(normal=4, known=1, test=6, side=128, steps=1, passes=1, at_once=(1, 2))


def trained(recipe: Recipe, size: Size, device: torch.device) -> tuple[list[ConditionalFlow], list[float]]:
    """The paper's flows after three short meta epochs, and the seconds that each took.

    One meta epoch of each phase warms up and records. The third, of the second phase, is like nearly all of a cell's.
    """
    rng, schedule = torch_generator("cell", device=device), recipe.schedule
    normal = _random_levels(recipe, size.normal, rng)
    entries = [_random_entries(recipe, size, rng) for _ in range(2)]
    short = schedule.model_copy(update={"meta_epochs": 3, "sub_epochs": size.passes, "warm_up_epochs": 1})
    recipe = recipe.model_copy(update={"schedule": short})
    flows = [flow.to(device) for flow in paper_flows(recipe, PAPERS)]
    epochs = Epochs(lambda flows, epoch: {}, log=lambda line: None)
    train(recipe, "bgad", flows, normal, repeat(entries), rng, epochs)
    ends = [0.0, *(row["seconds"] for row in epochs.history)]
    return flows, [end - start for start, end in pairwise(ends)]


def cell(recipe: Recipe, size: Size, device: torch.device, results: dict) -> dict:
    """A few passes of the paper's cell, its evaluation and its memory; and its complete time, extrapolated."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    tested = _random_levels(recipe, size.test, torch_generator("tested", device=device))
    flows, seconds = trained(recipe, size, device)
    memory = _memory(device)

    masks = np.random.default_rng(0).random((size.test, recipe.image_size // 16, recipe.image_size // 16)) < 0.05
    masks[: size.test // 4] = False
    masks = masks.repeat(16, 1).repeat(16, 2)
    names = tuple(map(str, range(size.test)))
    kinds = tuple("defect" if mask.any() else "good" for mask in masks)
    test = TestSet(names, kinds, torch.arange(size.test), masks)
    start = time.perf_counter()
    with torch.inference_mode():
        parts = zip(*(level.split(IMAGES_AT_ONCE) for level in tested), strict=True)
        found = [[flow.log_likelihood_maps(of) for flow, of in zip(flows, part, strict=True)] for part in parts]
    maps = [torch.cat(level) for level in zip(*found, strict=True)]
    wait(device)
    through = time.perf_counter() - start
    evaluate(maps, test, recipe.image_size)
    evaluation = time.perf_counter() - start

    schedule, entries = recipe.schedule, size.known * recipe.anomalies.repeat
    a_pass, passes = seconds[2] / size.passes, schedule.sub_epochs * schedule.meta_epochs
    fresh = entries * results["images"]["backbone_ms_an_image"] / 1e3
    made = entries * results["images"]["cutpaste_ms_an_image_and_core"] / 1e3
    evaluations = schedule.meta_epochs // schedule.evaluate_every
    return {
        "pass_s": a_pass,
        "first_epochs_s": seconds[:2],
        "evaluation_s": evaluation,
        "evaluation_of_it_likelihoods_s": through,
        "extrapolated": f"from {size.passes} passes with anomalies to the cell's {passes}, and {evaluations} evaluations",
        "extrapolated_steps_s": a_pass * passes,
        "extrapolated_evaluations_s": evaluation * evaluations,
        "extrapolated_backbone_for_fresh_images_s": fresh * schedule.sub_epochs * (schedule.meta_epochs - 1),
        "extrapolated_making_fresh_images_core_s": made * schedule.sub_epochs * (schedule.meta_epochs - 1),
        **memory,
    }


def cells_at_once(recipe: Recipe, size: Size, device: torch.device, results: dict) -> list[dict]:
    """The wall time of short trainings of the paper's shape, several processes at once; and the paper's suite from that.

    A suite with one seed is 15 cells with known anomalies, as long as bottle's. Each process has one CPU thread. Only as many
    as fit into the memory.
    """
    found: list[dict] = []
    if device.type == "cuda":
        torch.cuda.empty_cache()
    of_cell = results["cell"]["extrapolated_steps_s"] + results["cell"]["extrapolated_evaluations_s"]
    context = processes.get_context("spawn")
    for count in (count for count in size.at_once if count <= max(1, results["cell"]["cells_that_fit"])):
        ready, queue = context.Barrier(count), context.SimpleQueue()
        processes.spawn(_one_of_several, (recipe, size, device, ready, queue), nprocs=count)
        starts, ends = zip(*(queue.get() for _ in range(count)), strict=True)
        wall = max(ends) - min(starts)
        share = wall / found[0]["wall_s"] / count if found else 1.0  # of the time of a cell alone
        found.append({"cells": count, "wall_s": wall, "a_cell_s": wall / count, "extrapolated_suite_s": 15 * share * of_cell})
    return found


def _one_of_several(number: int, recipe: Recipe, size: Size, device: torch.device, ready, queue) -> None:
    devices.choose(str(device), 1)
    trained(recipe, size, device)  # loads libraries
    ready.wait()
    start = time.time()
    trained(recipe, size, device)
    queue.put((start, time.time()))


def paper_flows(recipe: Recipe, backbone: str) -> list[ConditionalFlow]:
    sides = [recipe.image_size // stride for stride in STRIDES]
    return build_flows(recipe, list(BACKBONES[backbone]), sides, torch_generator("bench"), frozen_generator("bench"))


def _random_levels(recipe: Recipe, count: int, rng: torch.Generator) -> list[Tensor]:
    sides = [recipe.image_size // stride for stride in STRIDES]
    of_levels = zip(sides, BACKBONES[PAPERS], strict=True)
    return [torch.randn(count, side**2, channels, generator=rng, device=rng.device) for side, channels in of_levels]


def _random_entries(recipe: Recipe, size: Size, rng: torch.Generator) -> AnomalousImages:
    levels = _random_levels(recipe, size.known * recipe.anomalies.repeat, rng)
    return AnomalousImages(levels, [torch.rand(level.shape[:2], generator=rng, device=rng.device) < 0.05 for level in levels])


def wait(device: torch.device) -> None:
    """Waits until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> dict:
    """The memory of a cell's process, and how many fit; on a GPU including what the driver keeps for each process."""
    if device.type != "cuda":
        taken, there = devices.peak_memory_mb(device)[0], psutil.virtual_memory().total / 2**20
        return {"peak_memory_mb": taken, "memory_mb": round(there, 1), "cells_that_fit": int(there // taken)}
    free, there = torch.cuda.mem_get_info(device)
    # Memory of other processes on this GPU, if any, counts as the driver's.
    driver = there - free - torch.cuda.memory_reserved(device)
    taken = driver + torch.cuda.max_memory_reserved(device)
    mb = {"peak_memory_mb": taken, "peak_allocated_mb": torch.cuda.max_memory_allocated(device), "memory_mb": there}
    return {**{name: round(value / 2**20, 1) for name, value in mb.items()}, "cells_that_fit": int(there // taken)}
