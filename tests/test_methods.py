"""The contract for methods: which there are, what is refused in a sentence, and what their cells leave behind."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import make_category

from bgad import methods
from bgad.config import methods as method_files
from bgad.config.cells import Cell
from bgad.config.paths import GALLERY
from bgad.config.settings import Block, Dataset, Recipe, read_yaml, validated
from bgad.data.layouts import build_index
from bgad.data.splits import draw
from bgad.errors import BgadError, DataError, FileError
from bgad.evaluation.metrics import aupro, auroc, best_f1_threshold
from bgad.features.backbone import load_backbone
from bgad.features.cache import compute, load
from bgad.methods import runner
from bgad.methods.predict import predict
from bgad.methods.runner import run_cell

CPU = torch.device("cpu")
RECIPES = Path(__file__).parents[1] / "config" / "recipes"
METRICS = ("image_auroc", "pixel_auroc", "aupro", "released_pro")

# A pixel is as anomalous as its finest vector is far from the mean; with known anomalies, their mean has a say as well.
MEAN = """
NAME = "The mean"
KNOWS_ANOMALIES = True

def fit(images, rng):
    known = images.known.levels[0][images.known.masks[:, ::4, ::4]] if images.known else images.levels[0][:0]
    return {"mean": images.levels[0].mean(dim=(0, 1, 2)), "known": known, "drawn": int(rng.initial_seed())}

def score(model, images):
    return (images.levels[0] - model["mean"]).norm(dim=3)
"""


@pytest.fixture
def seat(tmp_path, monkeypatch):
    """An empty folder of methods; ``seat(name, text)`` puts one there."""
    monkeypatch.setattr(method_files, "FOLDER", tmp_path)
    monkeypatch.setattr(methods, "__path__", [str(tmp_path)])

    def put(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, f"bgad.methods.{name}", raising=False)

    yield put
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"bgad.methods.{path.stem}", None)


class Category:
    """A small category on disk with its index, features and split."""

    def __init__(self, root: Path, masks: bool = True):
        self.root = root
        make_category(root, "part", types={"cut": 8, "hole": 8}, train=6, good=4, masks=masks)
        self.index = build_index("own", "part", root, Dataset(path=root))
        compute(self.index, root, load_backbone("tf_efficientnet_lite0", CPU), 32, root / "features")
        self.cache = load(root / "features")
        self.split = draw(self.index, "seen", 0)
        values = read_yaml(RECIPES / "demo.yaml") | {"image_size": 32}
        values["sampling"]["level_steps"] = [3, 2, 1]
        self.recipe = Recipe.model_validate(values)

    def run(self, method: str, output: Path, k: int = 0, log=lambda line: None) -> dict:
        cell = Cell("tiny", "own", "part", "seen", k, method, 0)
        return run_cell(cell, self.recipe, self.index, self.split, self.cache, {}, self.root, CPU, output, log=log)


@pytest.fixture(scope="module")
def category(tmp_path_factory) -> Category:
    return Category(tmp_path_factory.mktemp("category"))


def test_two_come_with_the_project():
    assert {"patchcore", "padim"} <= set(method_files.other_names())
    assert [method_files.display_name(name) for name in ("patchcore", "padim", "bgad-wo")] == ["PatchCore", "PaDiM", "bgad-wo"]
    assert not method_files.knows_anomalies("patchcore")


def test_a_file_is_a_method_by_its_name(seat):
    seat("_helpers", "")
    seat("a.b", MEAN)
    seat("mean-of-all", MEAN)
    assert method_files.other_names() == ["mean-of-all"]
    assert method_files.display_name("mean-of-all") == "The mean"
    assert method_files.knows_anomalies("mean-of-all")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "there is no method wrong; use one of bgad, bgad-wo, nf, other, or add bgad/methods/wrong.py."),
        ("def fit(images, rng): ...", "bgad/methods/wrong.py: has no function score"),
        ("def score(model, images): ...", "bgad/methods/wrong.py: has no function fit"),
        ("import there_is_no_such_module", "bgad/methods/wrong.py: cannot be imported"),
        ("def fit(", "bgad/methods/wrong.py: cannot be imported"),
    ],
)
def test_a_file_that_defines_no_method_is_refused(seat, text, sentence):
    seat("other", MEAN)
    if text is not None:
        seat("wrong", text)
    with pytest.raises(BgadError) as error:
        methods.load("wrong")
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["def fit(", "NAME = name()"])
def test_a_name_that_cannot_be_read_is_said(seat, text):
    seat("wrong", text)
    with pytest.raises(BgadError, match=r"bgad/methods/wrong.py: NAME cannot be read"):
        method_files.display_name("wrong")


def test_known_anomalies_go_to_a_method_that_says_so(seat):
    def block(method, k):
        values = {"recipe": "demo", "dataset": "mini", "splits": ["seen"], "k": k, "methods": [method], "seeds": [0]}
        return validated(Block, values, "suite.yaml")

    seat("mean", MEAN)
    seat("normal-only", MEAN.replace("KNOWS_ANOMALIES = True", ""))
    assert block("mean", [0, 10]).k == [0, 10]
    assert block("normal-only", [0]).k == [0]
    with pytest.raises(BgadError, match="method normal-only"):
        block("normal-only", [0, 10])
    with pytest.raises(BgadError, match=r"Input should be 'bgad', 'bgad-wo', 'nf', 'mean' or 'normal-only'"):
        block("patchcore", [0])


@pytest.mark.parametrize("method", ["patchcore", "padim"])
def test_a_cell_leaves_the_same_files_as_any_other(category, tmp_path, method):
    metrics = category.run(method, tmp_path)
    expected = {
        "metrics.json",
        "history.csv",
        "scores.csv",
        "curves.npz",
        "model.pt",
        "likelihoods.json",
        "scored.pt",
        *(f"gallery/{name}" for name in GALLERY),
    }
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == expected
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert metrics["cell"]["method"] == method
    for figures in (metrics, metrics["full_test"]):
        for metric in METRICS:
            assert 0 <= figures[metric]["last"] == figures[metric]["best"] <= 100
            assert figures[metric]["best_epoch"] == 0
    assert metrics["counts"] == {"train_normal": 6, "train_anomalous": 0, "test_normal": 4, "test_anomalous": 6}
    with (tmp_path / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert {metric: float(row[metric]) for metric in METRICS} == {metric: metrics[metric]["last"] for metric in METRICS}
    assert json.loads((tmp_path / "likelihoods.json").read_text()) is None


def test_the_metrics_are_those_of_the_maps(category, tmp_path, seat):
    seat("mean", MEAN)
    metrics = category.run("mean", tmp_path)
    cache, paths = category.cache, category.split.test(0)
    features = cache.levels[0].view(-1, 8, 8, 24)
    mean = features[cache.rows_of(category.split.train_normal)].mean(dim=(0, 1, 2))
    small = (features[cache.rows_of(paths)] - mean).norm(dim=3)
    maps = torch.nn.functional.interpolate(small[:, None], size=(32, 32), mode="bilinear")[:, 0].numpy()
    labels, masks = [not path.startswith("test/good") for path in paths], cache.masks[cache.rows_of(paths)].numpy()
    scores = maps.max(axis=(1, 2))
    assert metrics["image_auroc"]["last"] == pytest.approx(100 * auroc(labels, scores), abs=1e-3)
    assert metrics["pixel_auroc"]["last"] == pytest.approx(100 * auroc(masks, maps), abs=1e-3)
    assert metrics["aupro"]["last"] == pytest.approx(100 * aupro(masks, maps), abs=1e-3)
    with (tmp_path / "scores.csv").open() as file:
        written = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    assert written == pytest.approx(dict(zip(paths, scores.tolist(), strict=True)), rel=1e-5)


@pytest.mark.parametrize("method", ["patchcore", "padim", "mean"])
def test_its_model_scores_images_as_its_cell_did(category, tmp_path, seat, method):
    for name in ("patchcore", "padim"):
        seat(name, (Path(methods.__file__).parent / f"{name}.py").read_text())
    seat("mean", MEAN)
    category.run(method, tmp_path / "cell")
    with (tmp_path / "cell" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = predict([category.root / "part" / row["path"] for row in rows], tmp_path / "cell", CPU)
    scores = [float(row["score"]) for row in rows]
    np.testing.assert_allclose([one.score for one in found], scores, rtol=1e-3, atol=1e-3)
    threshold = best_f1_threshold([row["anomalous"] == "1" for row in rows], scores)
    assert found[0].threshold == pytest.approx(threshold, rel=1e-5)
    assert found[0].anomaly_map.shape == (32, 32)


def test_a_model_of_more_than_tensors_is_not_kept_and_predict_says_so(category, tmp_path, seat):
    class_of_its_own = "class Mean:\n    pass\n\n" + MEAN
    seat("odd", class_of_its_own.replace("return {", "return Mean() or {").replace('model["mean"]', "0"))
    said = []
    category.run("odd", tmp_path / "cell", log=said.append)
    assert any("The model is not kept" in line for line in said)
    with pytest.raises(FileError, match=r"model\.pt.* odd "):
        predict([], tmp_path / "cell", CPU)


def test_known_anomalies_come_with_their_masks(category, tmp_path, seat):
    seat("mean", MEAN)
    metrics = category.run("mean", tmp_path, k=3)
    assert "full_test" not in metrics
    assert metrics["counts"]["train_anomalous"] == 3
    rows = category.cache.rows_of(category.split.known(3))
    vectors = category.cache.levels[0].view(-1, 8, 8, 24)[rows][category.cache.masks[rows][:, ::4, ::4]]
    model = torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    assert len(vectors) and torch.equal(model["known"], vectors)


def test_without_masks_there_is_image_auroc_alone(tmp_path, seat):
    seat("mean", MEAN)
    category = Category(tmp_path / "data", masks=False)
    metrics = category.run("mean", tmp_path / "k0")
    assert metrics["image_auroc"]["last"] is not None and metrics["pixel_auroc"]["last"] is None
    with pytest.raises(DataError, match=r"own/part .*ground_truth"):
        category.run("mean", tmp_path / "k1", k=1)
    assert not (tmp_path / "k1").exists()


def test_maps_that_are_all_the_same_are_noticed(category, tmp_path, seat):
    seat("mean", MEAN)
    assert category.run("mean", tmp_path / "mean")["notes"] == []
    seat(
        "flat", "def fit(images, rng):\n    return None\n\ndef score(model, images):\n    return images.levels[0][..., 0] * 0\n"
    )
    metrics = category.run("flat", tmp_path / "flat")
    assert ["same score" in note for note in metrics["notes"]] == [True]
    assert metrics["image_auroc"]["last"] == 50


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ("images.levels[0]", r"wrong.py: score returned maps of shape \(10, 8, 8, 24\) for 10 images; return a map"),
        ("images.levels[0][:2, ..., 0]", r"wrong.py: score returned maps of shape \(2, 8, 8\) for 10 images; return a map"),
        ("images.levels[0][..., 0] / 0", r"wrong.py: score returned a value that is not finite"),
    ],
)
def test_maps_that_cannot_be_used_are_refused_and_nothing_stays(category, tmp_path, seat, monkeypatch, result, sentence):
    monkeypatch.setattr(runner, "IMAGES_AT_ONCE", 10)
    seat("wrong", f"def fit(images, rng):\n    return None\n\ndef score(model, images):\n    return {result}\n")
    with pytest.raises(BgadError, match=sentence):
        category.run("wrong", tmp_path / "cell")
    assert not (tmp_path / "cell").exists()


def test_a_cell_repeats_to_the_bit_and_other_cells_draw_otherwise(category, tmp_path, seat):
    seat("mean", MEAN)
    first, second = (category.run("mean", tmp_path / name) for name in ("one", "two"))
    assert first | {"timing": 0} == second | {"timing": 0}
    for name in ("scores.csv", "model.pt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    category.run("mean", tmp_path / "k1", k=1)
    drawn = [torch.load(tmp_path / name / "model.pt", weights_only=True)["model"]["drawn"] for name in ("one", "k1")]
    assert drawn[0] != drawn[1]
