"""bgad predict on files and folders: scores, verdicts, overlays and JSON, and what happens where an image is broken."""

import csv
import json
import math
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from folders import make_category, truncate
from PIL import Image

from bgad import cli
from bgad.config.cells import Cell
from bgad.config.settings import Dataset, Recipe, read_yaml
from bgad.data.layouts import build_index
from bgad.data.splits import draw
from bgad.errors import DataError
from bgad.features.backbone import load_backbone
from bgad.features.cache import compute, load
from bgad.methods.predict import images_in, predict
from bgad.methods.runner import run_cell

# Loading takes longer than scoring these images.
backbone_of = cache(load_backbone)
CPU = torch.device("cpu")
DEMO = Path(__file__).parents[1] / "config" / "recipes" / "demo.yaml"


@pytest.fixture(scope="module", autouse=True)
def one_backbone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bgad.methods.predict.load_backbone", backbone_of)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a category and two cells of it, the second of which has no threshold, as without anomalies to test on."""
    folder = tmp_path_factory.mktemp("images")
    make_category(folder, "part", types={"cut": 3}, good=3)
    values = read_yaml(DEMO) | {"image_size": 32}
    values["flow"] |= {"blocks": 2}
    recipe = Recipe.model_validate(values)
    index = build_index("own", "part", folder, Dataset(path=folder))
    compute(index, folder, backbone_of(recipe.backbone, CPU, None), 32, folder / "features")
    cell, cache = Cell("tiny", "own", "part", "seen", 0, "nf", 0), load(folder / "features")
    run_cell(cell, recipe, index, draw(index, "seen", 0, 1), cache, {}, folder, CPU, folder / "cell", log=lambda line: None)

    scores = sorted(one.score for one in predict(images_in([folder / "part/test/good"]), folder / "cell", CPU))
    assert scores[0] < scores[1] < scores[2]
    model = torch.load(folder / "cell/model.pt", weights_only=True)
    torch.save(model | {"threshold": scores[1]}, folder / "cell/model.pt")
    (folder / "without threshold").mkdir()
    torch.save(model | {"threshold": math.nan}, folder / "without threshold/model.pt")
    return folder


@pytest.fixture
def bgad(place, monkeypatch, capsys):
    """Runs a command in the folder and gives its exit status and what it said on both outputs."""
    monkeypatch.chdir(place)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bgad", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return run


def test_a_folder_stands_for_its_images_by_name(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt", "c.tiff"):
        (tmp_path / name).touch()
    (tmp_path / "further").mkdir()
    (tmp_path / "further/d.png").touch()
    found = images_in([tmp_path / "c.tiff", tmp_path])
    assert [path.name for path in found] == ["c.tiff", "a.JPG", "b.png", "c.tiff"]


def test_a_path_with_nothing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png"):
        images_in([tmp_path / "gone.png"])
    with pytest.raises(DataError, match=tmp_path.name):
        images_in([tmp_path])


def test_a_score_depends_on_no_other_image(place):
    paths = images_in([place / "part/test/good", place / "part/test/cut"])
    together = predict(paths, place / "cell", CPU)
    for path, one in zip(paths, together, strict=True):
        assert predict([path], place / "cell", CPU)[0].score == one.score
        assert one.score == one.anomaly_map.max()


def test_predict_writes_scores_and_an_overlay_of_each(place, bgad):
    status, said, _ = bgad("predict", "part/test/good", "part/test/cut", "--cell", "cell", "--out", "out")
    assert status == 0
    with (place / "out/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Both folders have a 000.png.
    assert [row["path"] for row in rows] == [f"part/test/{kind}/00{n}.png" for kind in ("good", "cut") for n in range(3)]
    assert len({row["overlay"] for row in rows}) == 6
    assert {path.name for path in (place / "out").iterdir()} == {"scores.csv"} | {row["overlay"] for row in rows}
    for row, one, line in zip(
        rows, predict([place / row["path"] for row in rows], place / "cell", CPU), said.splitlines(), strict=True
    ):
        assert float(row["score"]) == pytest.approx(one.score, rel=1e-6)
        assert float(row["threshold"]) == pytest.approx(one.threshold, rel=1e-6)
        assert row["verdict"] == ("anomalous" if one.score >= one.threshold else "normal")
        assert line == f"{row['path']}\t{one.score:.4f}\t{row['verdict']} (threshold {one.threshold:.4f})"
        with Image.open(place / "out" / row["overlay"]) as overlay:
            overlay.load()
    assert sorted(row["verdict"] for row in rows[:3]) == ["anomalous", "anomalous", "normal"], (
        "the threshold is the second score"
    )


def test_json_is_the_only_output(place, bgad):
    status, said, errors = bgad("predict", "part/test/cut", "--cell", "cell", "--json")
    assert (status, errors) == (0, "")
    rows = json.loads(said)
    assert [row["path"] for row in rows] == [f"part/test/cut/00{n}.png" for n in range(3)]
    assert {*rows[0]} == {"path", "score", "verdict", "threshold"}


def test_without_a_threshold_there_is_no_verdict(place, bgad):
    arguments = ("predict", "part/test/cut/000.png", "--cell", "without threshold")
    row = json.loads(bgad(*arguments, "--json")[1])[0]
    assert (row["verdict"], row["threshold"]) == (None, None)
    assert bgad(*arguments)[1].endswith("\tno verdict\n")


def test_the_others_are_scored_where_an_image_cannot_be_read(place, bgad, tmp_path):
    folder = make_category(tmp_path, "broken", types={}, good=3) / "test/good"
    victim = folder / "001.png"
    truncate(victim)
    status, printed, errors = bgad("predict", folder, "--cell", "cell", "--out", tmp_path / "out")
    assert status == 1
    assert re.fullmatch(rf"error: {victim}: .*\nerror: 1 of 3 images .*\n", errors)
    assert [line.split("\t")[0] for line in printed.splitlines()] == [str(folder / "000.png"), str(folder / "002.png")]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scores.csv", "0001-000.png", "0002-002.png"}
    status, printed, errors = bgad("predict", folder, "--cell", "cell", "--json")
    assert status == 1 and len(json.loads(printed)) == 2 and "1 of 3 images" in errors


def test_where_no_image_can_be_read_nothing_is_written(place, bgad, tmp_path):
    victim = make_category(tmp_path, "broken", types={}, good=1) / "test/good/000.png"
    truncate(victim)
    for before in (set(), {"kept.txt"}):
        status, printed, errors = bgad("predict", victim.parent, "--cell", "cell", "--out", tmp_path / "out")
        assert (status, printed) == (1, "")
        assert errors.startswith(f"error: {victim}: ") and errors.count("\n") == 1
        assert {path.name for path in tmp_path.glob("out/*")} == before
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/kept.txt").touch()


def test_an_earlier_output_is_replaced_and_never_scored(place, bgad, tmp_path):
    images = make_category(tmp_path, "part", types={}, good=3) / "test/good"
    out = ("--cell", "cell", "--out", images)
    for _ in range(2):
        status, printed, _ = bgad("predict", images, *out)
        assert status == 0 and len(printed.splitlines()) == 3
    assert bgad("predict", images / "002.png", *out)[0] == 0
    assert {path.name for path in images.iterdir()} == {"000.png", "001.png", "002.png", "scores.csv", "0001-002.png"}


def test_the_folder_of_a_cell_is_no_output_folder(place, bgad):
    before = (place / "cell/scores.csv").read_bytes()
    status, _, errors = bgad("predict", "part/test/cut", "--cell", "cell", "--out", "cell")
    assert status == 1 and errors.startswith("error: --out cell: ")
    assert (place / "cell/scores.csv").read_bytes() == before


def test_a_missing_cell_is_named(place, bgad):
    status, _, errors = bgad("predict", "part/test/cut", "--cell", "nowhere", "--out", "not made")
    assert status == 1 and errors.startswith("error: nowhere/model.pt: ")
    assert not (place / "not made").exists()
