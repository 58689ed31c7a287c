"""One cell of a detector (bgad/detectors), from its split and cached features to the same files as any other cell.

A detector is fitted once and evaluated once, so that last and best are one and the same; likelihoods.json is null, since
there are none. Of the recipe only the backbone and the image size matter.
"""

import io
import time
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bgad import methods
from bgad.config.cells import Cell
from bgad.config.provenance import method_sha256
from bgad.config.settings import Recipe
from bgad.data.layouts import Index
from bgad.data.splits import Split
from bgad.errors import BgadError
from bgad.evaluation.evaluate import evaluate_maps, test_sets, together
from bgad.evaluation.metrics import best_f1_threshold
from bgad.evaluation.outputs import (
    environment,
    figures_row,
    metrics,
    save_gallery,
    save_history,
    save_model,
    save_scores,
    timing,
)
from bgad.features.cache import FeatureCache
from bgad.io import write_json
from bgad.memory import in_smaller_batches
from bgad.methods import Images
from bgad.randomness import torch_generator

IMAGES_AT_ONCE = 32  # that a detector scores; bounds memory, changes nothing else


def run_detector_cell(
    cell: Cell,
    recipe: Recipe,
    index: Index,
    split: Split,
    cache: FeatureCache,
    root: Path,
    device: torch.device,
    output: Path,
    say: Callable[[str], None] = print,
    images_at_once: int | None = None,
) -> dict:
    """Fits and evaluates ``cell``, writes its files to ``output`` and returns the content of metrics.json.

    ``root`` is the data set's folder. The detector's draws depend on the cell's own names. BgadError if what the detector
    returns cannot be used.
    """
    started = time.perf_counter()
    images_at_once = images_at_once or IMAGES_AT_ONCE
    known = split.known(cell.k)
    if known and not index.has_masks:
        raise BgadError(
            f"{cell.dataset}/{cell.category} has no masks, so its anomalies cannot be known: k {cell.k} needs ground_truth; "
            "use k 0."
        )
    detector = methods.load(cell.method)
    cache = replace(cache, levels=[level.to(device) for level in cache.levels])
    tests = test_sets(cache, index, split, cell.k)
    category = root / cell.category
    normal = _images(cache, cache.rows_of(split.train_normal), category)
    if known:
        assert cache.masks is not None  # as the index has masks
        rows = cache.rows_of(known)
        normal = replace(normal, known=replace(_images(cache, rows, category), masks=cache.masks[rows]))

    mark = time.perf_counter()
    model = detector.fit(normal, torch_generator("detector", *astuple(cell)))
    train_seconds = time.perf_counter() - mark
    rows, places = together(tests)

    def scores(count: int) -> Tensor:
        return torch.cat([score_images(detector, model, _images(cache, part, category)) for part in rows.split(count)])

    maps = in_smaller_batches(scores, images_at_once)
    evaluations = {name: evaluate_maps(maps[places[name]], test) for name, test in tests.items()}
    evaluate_seconds = time.perf_counter() - mark - train_seconds
    history = [{"epoch": 0, **figures_row(evaluations), "seconds": round(train_seconds, 3)}]
    shown = [f"{name} {value:.2f}" for name, value in evaluations["test"].figures.items() if value is not None]
    say("  ".join([f"fitted in {train_seconds:.1f} s", *shown]))

    evaluation, test = evaluations["test"], tests["test"]
    types_known = {image.path: image.type for image in index.images if image.path in known}
    threshold = best_f1_threshold(test.is_anomalous, evaluation.scores)
    save_scores(output, test, evaluation)
    save_history(output, history)
    save_model(output, cell, recipe, cache, threshold, {"highest": maps.max().item(), **_learned(model, say)})
    save_gallery(output, cache, test, evaluation, threshold)
    write_json(output / "likelihoods.json", None)
    values = {
        **metrics(cell, recipe, split, cache, history, test, evaluation, types_known),
        "source_sha256": method_sha256(cell.method),
        "timing": timing(started, cache.seconds, train_seconds, evaluate_seconds, device),
        "environment": environment(device),
    }
    write_json(output / "metrics.json", values)
    return values


@torch.inference_mode()
def score_images(detector: ModuleType, model: Any, images: Images) -> Tensor:
    """The anomaly maps that the detector gives ``images``, brought to their size bilinearly: (N, S, S) float32, on the CPU."""
    name = f"{detector.__name__.replace('.', '/')}.py"
    maps = torch.as_tensor(detector.score(model, images)).float().cpu()
    if maps.ndim != 3 or len(maps) != len(images):
        raise BgadError(
            f"{name}: score returned maps of shape {tuple(maps.shape)} for {len(images)} images; return a map (h, w) for each."
        )
    if not maps.isfinite().all():
        raise BgadError(f"{name}: score returned a value that is not finite; return finite maps.")
    return interpolate(maps[:, None], size=(images.size, images.size), mode="bilinear", align_corners=False)[:, 0]


def images_of_levels(levels: list[Tensor], files: list[Path], size: int) -> Images:
    """Images of the vectors (N, h * w, C) of each level."""
    sides = [round(level.shape[1] ** 0.5) for level in levels]
    maps = [level.view(len(level), side, side, -1) for level, side in zip(levels, sides, strict=True)]
    return Images(maps, files, size)


def _images(cache: FeatureCache, rows: Tensor, category: Path) -> Images:
    """The cache's images in ``rows``; where these follow each other, as a category's training images do, nothing is copied."""
    start, stop = int(rows[0]), int(rows[-1]) + 1
    in_a_row = torch.equal(rows, torch.arange(start, stop))
    levels = [level[start:stop] if in_a_row else level[rows.to(level.device)] for level in cache.levels]
    return images_of_levels(levels, [category / cache.paths[row] for row in rows], cache.image_size)


def _learned(model: Any, say: Callable[[str], None]) -> dict:
    """The model for model.pt; nothing where it is made of more than tensors and plain values."""
    buffer = io.BytesIO()
    try:
        torch.save(model, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # of many kinds, by what the model holds; all mean the same here
        say(f"The model is not kept, since it holds more than tensors and plain values: {str(error).splitlines()[0]}")
        return {}
    return {"model": model}
