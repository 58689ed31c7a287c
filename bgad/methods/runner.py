"""One cell, whatever its method: from its split and cached features to metrics.json and the files next to it.

The steps: fit the method on the normal images (and k known anomalies), evaluate it on the test set, write what it leaves. With
k 0, a category and seed are trained once, on ``seen``; a cell on hard-<type> evaluates that training on its own test set.
"""

import inspect
import io
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bgad import methods
from bgad.anomalies.synthetic import SyntheticMaker
from bgad.config.cells import Cell
from bgad.config.provenance import method_sha256
from bgad.config.settings import Recipe
from bgad.data.layouts import Index
from bgad.data.splits import Split
from bgad.errors import DataError, FileError, TrainingError
from bgad.evaluation import outputs
from bgad.evaluation.evaluate import Evaluation, TestSet, check_finite, evaluate, evaluate_maps, test_sets, together
from bgad.evaluation.likelihoods import BOUNDARY_IMAGES, histograms_of_levels
from bgad.evaluation.metrics import best_f1_threshold
from bgad.evaluation.scored import Found, Scored, on_cpu
from bgad.features.cache import FeatureCache
from bgad.io import write_json
from bgad.memory import in_smaller_batches
from bgad.methods import Images, Setting
from bgad.model import flow
from bgad.randomness import torch_generator
from bgad.tensors import load_tensors
from bgad.training.checkpoint import Checkpoint
from bgad.training.train import Epochs

SCORES = "scores"  # the key of a row of the history that keeps what was scored; checkpoints have it, history.csv does not
IMAGES_AT_ONCE = 16  # that are scored; bounds memory, and is halved where memory does not suffice


def run_cell(
    cell: Cell,
    recipe: Recipe,
    index: Index,
    split: Split,
    cache: FeatureCache,
    pools: dict[str, FeatureCache],
    root: Path,
    device: torch.device,
    output: Path,
    weights: Path | None = None,
    log: Callable[[str], None] = print,
    workers: int = 0,
    checkpoint: Checkpoint | None = None,
    trained: Path | None = None,
) -> dict:
    """Fits and evaluates ``cell``, writes its files to ``output`` and returns the content of metrics.json.

    ``pools`` holds the cache of each kind of synthetic images (cutpaste, pseudo), for a recipe that has pools; other recipes
    make them in each pass, in ``workers`` processes next to the training, from the images in ``root``, the data set's folder.
    Every draw depends on the names of ``cell.training`` only. A training that was stopped resumes from its ``checkpoint``. With
    the folder ``trained`` of that cell, nothing is trained: its model is evaluated, to the same metrics.

    DataError if anomalies should be known and there are no masks; FileError if ``trained`` lacks a file; TrainingError if the
    method diverges or returns what cannot be used.
    """
    started = time.perf_counter()
    known = split.known(cell.k)
    if known and not index.has_masks:
        raise DataError(
            f"{cell.dataset}/{cell.category} has no masks, so its anomalies cannot be known: k {cell.k} needs ground_truth; "
            "use k 0 (methods bgad-wo and nf)."
        )
    method = methods.load(cell.method)
    cache = replace(cache, levels=[level.to(device) for level in cache.levels])
    keep = cell.k == 0 and cell.split == "seen"
    scorer = Scorer(method, cache, root / cell.category, test_sets(cache, index, split, cell.k), keep)
    maker = SyntheticMaker(index, split, root / cell.category, cache.image_size)
    setting = Setting(cell.training, recipe, device, maker, known, cache.weights_sha256, pools, weights, workers)
    normal = cache.rows_of(split.train_normal)
    epochs = Epochs(scorer.row_of_epoch, log, checkpoint)

    kept = _kept_model(trained, device) if trained else {}
    from_other = {"trained_in": cell.training.folder.as_posix()} if kept else {}
    if trained and kept:
        log(f"evaluating the training of {cell.training.folder.as_posix()}, whose training time this is")
        _evaluate_again(scorer, epochs, Scored.load(trained, cell.training, recipe, cache, device))
        model = _restored(method, kept["model"], recipe, cache, device)
    else:
        rng = torch_generator("train", *astuple(cell.training))
        model = _fit(method, scorer.training_images(normal, setting), rng, epochs)
        kept = _saved(method, model, log)
    scores = {row["epoch"]: row.pop(SCORES) for row in epochs.history if SCORES in row}
    if not scorer.evaluations:  # training had ended before, as the checkpoint says
        scorer.row_of_epoch(model, epochs.history[-1]["epoch"])
    evaluations = scorer.evaluations

    test, evaluation = scorer.tests["test"], evaluations["test"]
    types = {image.path: image.type for image in index.images}
    types_known = {path: types[path] for path in known}
    threshold = best_f1_threshold(test.is_anomalous, evaluation.scores)
    depth = {"bit_depth": index.bit_depth} if index.bit_depth else {}
    outputs.save_scores(output, test, evaluation)
    outputs.save_curves(output, test, evaluation)
    outputs.save_history(output, epochs.history)
    outputs.save_model(output, cell, recipe, cache, threshold, evaluation, kept | depth)
    outputs.save_gallery(output, cache, test, evaluation, threshold)
    write_json(output / "likelihoods.json", _likelihoods(scorer, model, recipe, normal, types_known, evaluation))
    if keep:
        Scored(epochs.history, epochs.seconds, scores).save(output, cell, recipe, cache)
    features_seconds = cache.seconds + sum(pool.seconds for pool in pools.values())
    values = {
        **outputs.metrics(cell, recipe, split, cache, epochs.history, test, evaluation, types_known, index),
        **_released_test_command(scorer, model, cell, recipe, split, index),
        **from_other,
        "source_sha256": method_sha256(cell.method),
        "timing": outputs.timing(started, features_seconds, epochs.seconds, scorer.seconds, device),
        "environment": outputs.environment(device) | {"blocks": flow.describe(device)},
    }
    write_json(output / "metrics.json", values)
    return values


def score_images(method: ModuleType, model: Any, images: Images) -> Found:
    """What the method's ``score`` returns for ``images``: log-likelihoods, (N, h, w) a level, as they are, or maps, brought to
    (N, S, S) bilinearly, float32, on the CPU. TrainingError if the maps cannot be used."""
    with torch.inference_mode():
        found = method.score(model, images)
        if isinstance(found, list):
            return found
        maps = torch.as_tensor(found).float().cpu()
    name = f"{method.__name__.replace('.', '/')}.py"
    if maps.ndim != 3 or len(maps) != len(images):
        raise TrainingError(
            f"{name}: score returned maps of shape {tuple(maps.shape)} for {len(images)} images; return a map (h, w) for each."
        )
    if not maps.isfinite().all():
        raise TrainingError(f"{name}: score returned a value that is not finite; return finite maps.")
    return interpolate(maps[:, None], size=(images.size, images.size), mode="bilinear", align_corners=False)[:, 0]


def images_of_levels(levels: list[Tensor], files: list[Path], size: int) -> Images:
    """Images of the vectors (N, h * w, C) of each level."""
    sides = [round(level.shape[1] ** 0.5) for level in levels]
    maps = [level.view(len(level), side, side, -1) for level, side in zip(levels, sides, strict=True)]
    return Images(maps, files, size)


@dataclass
class Scorer:
    """A cell's images as its method sees them, scored and evaluated."""

    method: ModuleType
    cache: FeatureCache
    category: Path  # folder
    tests: dict[str, TestSet]
    keep: bool = False  # what every evaluation scored, in the row of its epoch
    seconds: float = 0.0  # of all evaluations
    evaluations: dict[str, Evaluation] = field(default_factory=dict)  # the last one of each test set

    def row_of_epoch(self, model: Any, epoch: int) -> dict:
        """The metrics of an epoch as columns of history.csv."""
        started = time.perf_counter()
        found = self.score(model, together(self.tests)[0])
        self.seconds += time.perf_counter() - started
        kept = {SCORES: on_cpu(found)} if self.keep else {}
        return outputs.metrics_row(self.evaluate(found, epoch)) | kept

    def evaluate(self, found: Found, epoch: int) -> dict[str, Evaluation]:
        """Each test set's evaluation, where ``found`` is what an epoch's model made of the images of all, each once."""
        started = time.perf_counter()
        self.evaluations = self.evaluated(self.tests, found, epoch)
        self.seconds += time.perf_counter() - started
        return self.evaluations

    def evaluated(self, tests: dict[str, TestSet], found: Found, epoch: int) -> dict[str, Evaluation]:
        places = together(tests)[1]
        if isinstance(found, Tensor):
            return {name: evaluate_maps(found[places[name]], test) for name, test in tests.items()}
        # This also finds out about the last step of an epoch, whose effect no loss shows.
        check_finite(found, f"training diverged: after meta epoch {epoch}", "lower schedule.learning_rate in the recipe")
        size = self.cache.image_size
        return {name: evaluate([level[places[name]] for level in found], test, size) for name, test in tests.items()}

    def score(self, model: Any, rows: Tensor) -> Found:
        """As ``score_images``, for the cache's images in ``rows``; needs memory for IMAGES_AT_ONCE of them."""

        def in_batches(count: int) -> Found:
            found = [score_images(self.method, model, self.images(part)) for part in rows.split(count)]
            if isinstance(found[0], Tensor):
                return torch.cat(found)  # type: ignore[arg-type]
            return [torch.cat(level) for level in zip(*found, strict=True)]

        return in_smaller_batches(in_batches, IMAGES_AT_ONCE)

    def log_likelihoods(self, model: Any, rows: Tensor) -> list[Tensor]:
        found = self.score(model, rows)
        assert isinstance(found, list)  # asked only of a method that has them
        return found

    def training_images(self, normal: Tensor, setting: Setting) -> Images:
        images = replace(self.images(normal), setting=setting)
        if not setting.known:
            return images
        assert self.cache.masks is not None  # as the index has masks
        rows = self.cache.rows_of(setting.known)
        return replace(images, known=replace(self.images(rows), masks=self.cache.masks[rows]))

    def images(self, rows: Tensor) -> Images:
        """The cache's images in ``rows``; consecutive ones, as a category's training images usually are, are not copied."""
        start, count = int(rows[0]), len(rows)
        consecutive = torch.equal(rows, torch.arange(start, start + count))
        levels = [level[start : start + count] if consecutive else level[rows.to(level.device)] for level in self.cache.levels]
        return images_of_levels(levels, [self.category / self.cache.paths[row] for row in rows], self.cache.image_size)


def _fit(method: ModuleType, images: Images, rng: torch.Generator, epochs: Epochs) -> Any:
    """The fitted model. A method without epochs of its own has one, so that its last and best metrics are the same."""
    if "epochs" in inspect.signature(method.fit).parameters:
        return method.fit(images, rng, epochs)
    started = time.perf_counter()
    model = method.fit(images, rng)
    epochs.seconds = time.perf_counter() - started
    row = epochs.evaluate(model, 0)
    epochs.history.append({"epoch": 0, **row, "seconds": round(epochs.seconds, 3)})
    shown = [f"{name} {value:.2f}" for name, value in row.items() if isinstance(value, float)]
    epochs.log("  ".join([f"fitted in {epochs.seconds:.1f} s", *shown]))
    return model


def _evaluate_again(scorer: Scorer, epochs: Epochs, scored: Scored) -> None:
    """Evaluates what another cell ``scored`` on this one's test sets, epoch by epoch."""
    for row in scored.history:
        found = scored.found.get(row["epoch"])
        epochs.history.append(row if found is None else row | outputs.metrics_row(scorer.evaluate(found, row["epoch"])))
    epochs.seconds = scored.seconds


def _kept_model(trained: Path, device: torch.device) -> dict:
    """The model of model.pt as ``_saved`` gave it; nothing if it was not kept, so that the method has to be fitted again."""
    path = trained / "model.pt"
    try:
        content = load_tensors(path, device)
    except (FileNotFoundError, ValueError) as error:
        raise FileError(f"{path}: missing or damaged; run its cell again.") from error
    return {"model": content["model"]} if "model" in content else {}


def _restored(method: ModuleType, model: Any, recipe: Recipe, cache: FeatureCache, device: torch.device) -> Any:
    if not hasattr(method, "restore"):
        return model
    sides = [cache.side(level) for level in range(len(cache.levels))]
    return method.restore(model, recipe, [level.shape[2] for level in cache.levels], sides, device)


def _likelihoods(
    scorer: Scorer, model: Any, recipe: Recipe, normal: Tensor, types_known: dict[str, str], evaluation: Evaluation
) -> dict | None:
    """The content of likelihoods.json; None of a method that has no log-likelihoods."""
    if not evaluation.likelihoods:
        return None
    some = normal[torch.linspace(0, len(normal) - 1, min(BOUNDARY_IMAGES, len(normal))).round().long()]
    of_known = None
    if types_known:
        rows, masks = scorer.cache.rows_of(tuple(types_known)), scorer.cache.masks
        assert masks is not None  # known anomalies have masks
        of_known = scorer.log_likelihoods(model, rows), masks[rows]
    types, test = {*types_known.values()}, scorer.tests["test"]
    return histograms_of_levels(recipe, scorer.log_likelihoods(model, some), of_known, types, test, evaluation)


def _released_test_command(scorer: Scorer, model: Any, cell: Cell, recipe: Recipe, split: Split, index: Index) -> dict:
    """What the released test command would print for the last epoch: it leaves the known anomalies in the test set."""
    if cell.k == 0 or not recipe.quirks.test_command_keeps_known or cell.method != "bgad":
        return {}
    everything = {"test": TestSet.of(scorer.cache, split.full_test(), index)}
    found = scorer.score(model, together(everything)[0])
    return {"released_test_command": scorer.evaluated(everything, found, recipe.schedule.meta_epochs - 1)["test"].metrics}


def _saved(method: ModuleType, model: Any, log: Callable[[str], None]) -> dict:
    """The model for model.pt; nothing if it holds more than tensors and plain values and its method has no ``save``."""
    if hasattr(method, "save"):
        return {"model": method.save(model)}
    buffer = io.BytesIO()
    try:
        torch.save(model, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # of many kinds, by what the model holds; all mean the same here
        log(f"The model is not kept, since it holds more than tensors and plain values: {str(error).splitlines()[0]}")
        return {}
    return {"model": model}
