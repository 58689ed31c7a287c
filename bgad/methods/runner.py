"""One cell, whatever its method: from its split and cached features to metrics.json and the files next to it.

The steps: fit the method on the normal images (and k known anomalies), evaluate it on the test set, write what it leaves.
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
from bgad.errors import DataError, TrainingError
from bgad.evaluation import outputs
from bgad.evaluation.evaluate import Evaluation, TestSet, check_finite, evaluate, evaluate_maps, test_sets, together
from bgad.evaluation.likelihoods import BOUNDARY_IMAGES, histograms_of_levels
from bgad.evaluation.metrics import best_f1_threshold
from bgad.features.cache import FeatureCache
from bgad.io import write_json
from bgad.memory import in_smaller_batches
from bgad.methods import Images, Setting
from bgad.model import flow
from bgad.randomness import torch_generator
from bgad.training.checkpoint import Checkpoint
from bgad.training.train import Epochs

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
) -> dict:
    """Fits and evaluates ``cell``, writes its files to ``output`` and returns the content of metrics.json.

    ``pools`` holds the cache of each kind of synthetic images (cutpaste, pseudo), for a recipe that has pools; other recipes
    make them in each pass, in ``workers`` processes next to the training, from the images in ``root``, the data set's folder.
    Every draw depends on the cell's own names. A training that was stopped resumes from its ``checkpoint``. DataError if
    anomalies should be known and there are no masks; TrainingError if the method diverges or returns what cannot be used.
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
    scorer = Scorer(method, cache, root / cell.category, test_sets(cache, index, split, cell.k))
    maker = SyntheticMaker(index, split, root / cell.category, cache.image_size)
    setting = Setting(cell, recipe, device, maker, known, cache.weights_sha256, pools, weights, workers)
    normal = cache.rows_of(split.train_normal)
    epochs = Epochs(scorer.row_of_epoch, log, checkpoint)

    model = _fit(method, scorer.training_images(normal, setting), torch_generator("train", *astuple(cell)), epochs)
    # Nothing was evaluated here yet where training had ended before, as the checkpoint says.
    evaluations = scorer.evaluations or scorer.evaluate(model, epochs.history[-1]["epoch"])

    test, evaluation = scorer.tests["test"], evaluations["test"]
    types = {image.path: image.type for image in index.images}
    types_known = {path: types[path] for path in known}
    threshold = best_f1_threshold(test.is_anomalous, evaluation.scores)
    depth = {"bit_depth": index.bit_depth} if index.bit_depth else {}
    outputs.save_scores(output, test, evaluation)
    outputs.save_curves(output, test, evaluation)
    outputs.save_history(output, epochs.history)
    outputs.save_model(output, cell, recipe, cache, threshold, evaluation, _saved(method, model, log) | depth)
    outputs.save_gallery(output, cache, test, evaluation, threshold)
    write_json(output / "likelihoods.json", _likelihoods(scorer, model, recipe, normal, types_known, evaluation))
    features_seconds = cache.seconds + sum(pool.seconds for pool in pools.values())
    values = {
        **outputs.metrics(cell, recipe, split, cache, epochs.history, test, evaluation, types_known, index),
        **_released_test_command(scorer, model, cell, recipe, split, index),
        "source_sha256": method_sha256(cell.method),
        "timing": outputs.timing(started, features_seconds, epochs.seconds, scorer.seconds, device),
        "environment": outputs.environment(device) | {"blocks": flow.describe(device)},
    }
    write_json(output / "metrics.json", values)
    return values


def score_images(method: ModuleType, model: Any, images: Images) -> list[Tensor] | Tensor:
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
    seconds: float = 0.0  # of all evaluations
    evaluations: dict[str, Evaluation] = field(default_factory=dict)  # the last one of each test set

    def row_of_epoch(self, model: Any, epoch: int) -> dict:
        """The metrics of an epoch as columns of history.csv."""
        return outputs.metrics_row(self.evaluate(model, epoch))

    def evaluate(self, model: Any, epoch: int) -> dict[str, Evaluation]:
        started = time.perf_counter()
        self.evaluations = self.evaluated(self.tests, model, epoch)
        self.seconds += time.perf_counter() - started
        return self.evaluations

    def evaluated(self, tests: dict[str, TestSet], model: Any, epoch: int) -> dict[str, Evaluation]:
        """Each test set's evaluation; an image that is in several of them is scored once."""
        rows, places = together(tests)
        found = self.score(model, rows)
        if isinstance(found, Tensor):
            return {name: evaluate_maps(found[places[name]], test) for name, test in tests.items()}
        # This also finds out about the last step of an epoch, whose effect no loss shows.
        check_finite(found, f"training diverged: after meta epoch {epoch}", "lower schedule.learning_rate in the recipe")
        size = self.cache.image_size
        return {name: evaluate([level[places[name]] for level in found], test, size) for name, test in tests.items()}

    def score(self, model: Any, rows: Tensor) -> list[Tensor] | Tensor:
        """As ``score_images``, for the cache's images in ``rows``; needs memory for IMAGES_AT_ONCE of them."""

        def in_batches(count: int) -> list[Tensor] | Tensor:
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
    shown = [f"{name} {value:.2f}" for name, value in row.items() if value is not None]
    epochs.log("  ".join([f"fitted in {epochs.seconds:.1f} s", *shown]))
    return model


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
    return {"released_test_command": scorer.evaluated(everything, model, recipe.schedule.meta_epochs - 1)["test"].metrics}


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
