"""The files of a cell, whatever its method:

    metrics.json    the metrics and where they came from      history.csv   a row per meta epoch
    scores.csv      a row per test image, last epoch          model.pt      the model, and the threshold of scores
    curves.npz      what each test image adds to the curves   likelihoods.json    histograms of l, and the boundaries
    gallery/        the test images, masks and anomaly maps

metrics.json is written last: a cell that has it is complete.
"""

import importlib.metadata
import platform
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import torch

from bgad.config.cells import Cell
from bgad.config.settings import Recipe
from bgad.data import checks
from bgad.data.layouts import Index
from bgad.data.splits import Split
from bgad.devices import describe, peak_memory_mb
from bgad.evaluation.curves import Curves
from bgad.evaluation.evaluate import Evaluation, TestSet, by_type
from bgad.evaluation.gallery import write_gallery
from bgad.evaluation.metrics import METRICS
from bgad.features.cache import FeatureCache
from bgad.io import write_csv
from bgad.tensors import save_tensors


def metrics(
    cell: Cell,
    recipe: Recipe,
    split: Split,
    cache: FeatureCache,
    history: list[dict],
    test: TestSet,
    evaluation: Evaluation,
    types_known: dict[str, str],
    index: Index,
) -> dict:
    """The metrics of a cell, notes on its test set, and the hashes of its inputs.

    ``types_known`` are the paths of its known anomalies with their types.
    """
    return {
        "cell": asdict(cell),
        **_last_and_best(history, ""),
        **({"full_test": _last_and_best(history, "full_")} if cell.k == 0 else {}),
        "by_type": by_type(test, evaluation, {*types_known.values()}),
        "counts": {
            "train_normal": len(split.train_normal),
            "train_anomalous": len(types_known),
            "test_normal": int((~test.is_anomalous).sum()),
            "test_anomalous": int(test.is_anomalous.sum()),
        },
        "notes": [*checks.of_cell(split, test.types, test.masks, evaluation.scores, test.has_mask), *index.notes],
        "split_sha256": split.sha256,
        "index_sha256": index.sha256,
        "features_sha256": cache.sha256,
        "weights_sha256": cache.weights_sha256,
        "recipe_sha256": recipe.sha256,
    }


def timing(started: float, features: float, train: float, evaluate: float, device: torch.device) -> dict:
    """Seconds (the total since ``started``, a time.perf_counter) and peak memory."""
    resident, on_gpu = peak_memory_mb(device)
    seconds = {"features_s": features, "train_s": train, "evaluate_s": evaluate, "total_s": time.perf_counter() - started}
    return {name: round(value, 3) for name, value in seconds.items()} | {"peak_rss_mb": resident, "peak_gpu_mb": on_gpu}


def environment(device: torch.device) -> dict:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "timm", "FrEIA")}
    return {"python": platform.python_version(), **versions, **describe(device), "git_commit": _git_commit()}


def metrics_row(evaluations: dict[str, Evaluation]) -> dict:
    """The metrics of an evaluation as columns of history.csv."""
    row: dict[str, float | None] = {}
    for name, prefix in (("test", ""), ("full_test", "full_")):
        if name in evaluations:
            row |= {prefix + metric: evaluations[name].metrics[metric] for metric in METRICS}
    return row


def save_history(folder: Path, history: list[dict]) -> None:
    columns = list(dict.fromkeys(key for row in history[-1:] + history for key in row))
    write_csv(folder / "history.csv", [{column: row.get(column) for column in columns} for row in history])


def save_scores(folder: Path, test: TestSet, evaluation: Evaluation) -> None:
    rows = zip(test.paths, test.types, test.is_anomalous.astype(int), evaluation.scores, strict=True)
    scores = [{"path": path, "type": kind, "anomalous": label, "score": f"{score:.7g}"} for path, kind, label, score in rows]
    write_csv(folder / "scores.csv", scores)


def save_curves(folder: Path, test: TestSet, evaluation: Evaluation) -> None:
    Curves.of(test.masks, evaluation.maps, test.has_mask).save(folder / "curves.npz")


def save_gallery(folder: Path, cache: FeatureCache, test: TestSet, evaluation: Evaluation, threshold: float) -> None:
    assert cache.thumbnails is not None  # features.load gives them
    write_gallery(folder / "gallery", cache.thumbnails[test.rows].numpy(), test.masks, evaluation.maps, threshold)


def save_model(
    folder: Path, cell: Cell, recipe: Recipe, cache: FeatureCache, threshold: float, evaluation: Evaluation, learned: dict
) -> None:
    """Tensors and plain values only, so that it loads with weights_only. A flow's maps go by ``scale``; ``highest`` is the
    highest score of the test set."""
    content = {
        "cell": asdict(cell),
        "recipe": recipe.model_dump(),
        "weights_sha256": cache.weights_sha256,
        "threshold": threshold,
        "highest": float(evaluation.maps.max()),
        "scale": asdict(evaluation.scale) if evaluation.scale else None,
        **learned,
    }
    save_tensors(folder / "model.pt", content)


def _last_and_best(history: list[dict], prefix: str) -> dict[str, dict]:
    """``last`` is the last epoch's value; ``best`` is the maximum over the evaluations, at the first epoch that reaches it."""
    found = {}
    for metric in METRICS:
        values = [(row[prefix + metric], row["epoch"]) for row in history if row.get(prefix + metric) is not None]
        best, epoch = max(values, key=lambda value: (value[0], -value[1]), default=(None, None))
        found[metric] = {"last": values[-1][0] if values else None, "best": best, "best_epoch": epoch}
    return found


def _git_commit() -> str | None:
    """The commit of this source tree, marked if it has changes; None outside a checkout."""
    here = Path(__file__).parents[1]
    try:
        found = [
            subprocess.run(["git", "-C", here, *command], capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[0] + ("+changes" if found[1] else "")
