"""Notes on copies, one-class test sets, empty masks and equal scores; in logs, cells and reports."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from folders import make_category
from synthetic import cell, metrics, suite, table, under, write_cell

from bgad import cli
from bgad.data import checks
from bgad.data.layouts import ImageRecord, Index
from bgad.data.splits import draw
from bgad.report.page.page import page

ACROSS = "1 test image is byte-identical to training images: left out of the test set."
COPY = "1 image is byte-identical to another one: left out, so that each counts once."
UNSURE = "2 images are byte-identical to one with another type: left out ({}, {})."
EMPTY = "2 anomalous test images are without an anomalous pixel in the mask: only the image counts as anomalous."
EQUAL = "All test images have the same score, so image AUROC is 50 and means nothing."


def index(*images):
    """Of images (part, type, content); images of the same content are copies."""
    records = [
        ImageRecord(f"{part}/{kind}/{place:03}.png", part, kind, None, content)
        for place, (part, kind, content) in enumerate(images)
    ]
    return Index("own", "part", False, True, tuple(records))


NORMAL = [("train", "good", "a"), ("train", "good", "b"), ("test", "good", "c"), ("test", "cut", "d")]


@pytest.mark.parametrize(
    ("more", "notes"),
    [
        ([], []),
        ([("test", "good", "a")], [ACROSS]),
        ([("test", "cut", "a")], [UNSURE.format("test/cut/006.png", "train/good/000.png")]),
        ([("train", "good", "b")], [COPY]),
        ([("test", "cut", "d")], [COPY]),
        ([("test", "hole", "d")], [UNSURE.format("test/cut/003.png", "test/hole/006.png")]),
        (
            [("test", "good", "a"), ("train", "good", "a"), ("test", "hole", "d")],
            [ACROSS, UNSURE.format("test/cut/003.png", "test/hole/008.png"), COPY],
        ),
    ],
)
def test_copies_are_noticed_in_the_index_and_in_a_cell(more, notes):
    of = index(*NORMAL, ("test", "cut", "e"), ("test", "cut", "f"), *more)
    assert checks.of_index(of) == notes
    split = draw(of, "seen", 0, pool_size=1)
    assert checks.of_split(split) == []
    assert checks.of_cell(split, ("good", "cut"), None, np.array([1.0, 2.0])) == notes


def test_a_test_set_of_one_class_is_noticed():
    assert checks.of_index(index(*NORMAL[:3])) == ["No test image is anomalous, so there is no AUROC."]
    only = index(*NORMAL[:2], NORMAL[3])
    assert checks.of_index(only) == ["No test image is normal, so there is no AUROC."]
    # The only normal test image is a training image, as the split finds.
    split = draw(index(*NORMAL[:2], ("test", "good", "a"), ("test", "cut", "d"), ("test", "cut", "e")), "seen", 0, pool_size=1)
    said = ["No test image is normal, so there is no AUROC."]
    assert checks.of_split(split) == said
    assert checks.of_cell(split, ("cut",), None, np.array([1.0])) == [*said, ACROSS]


def test_empty_masks_are_noticed_also_those_that_resizing_empties():
    of = index(*NORMAL, ("test", "cut", "e"), ("test", "hole", "f"))
    emptied = replace(of, images=tuple(replace(image, empty_mask=image.sha256 in "ef") for image in of.images))
    assert checks.of_index(emptied) == [EMPTY]
    masks = np.zeros((4, 2, 2), dtype=bool)
    masks[1, 0, 0] = True
    split = draw(index(*NORMAL, ("test", "cut", "e")), "seen", 0, pool_size=1)
    types, scores = ("good", "cut", "cut", "hole"), np.arange(4.0)
    assert checks.of_cell(split, types, masks, scores) == [EMPTY]
    assert checks.of_cell(split, types, None, scores) == []


def test_the_steps_say_it_in_their_logs(tmp_path, monkeypatch, capsys):
    def bgad(*arguments):
        monkeypatch.setattr(sys, "argv", ["bgad", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return capsys.readouterr().out.splitlines()

    folder = make_category(tmp_path, "part", good=1, types={"cut": 3}, masks=False)
    shutil.copy(folder / "train/good/001.png", folder / "test/good/000.png")
    datasets = f'{{"own": {{"path": "{tmp_path}"}}}}'
    names = ("--dataset", "own", "--category", "part", "--root", tmp_path, "--datasets", datasets)
    assert bgad("index", *names, "--output", tmp_path / "index.json") == [f"note: {ACROSS}"]
    arguments = ("--index", tmp_path / "index.json", "--split", "seen", "--seed", 0, "--pool", 1)
    said = bgad("split", *arguments, "--output", tmp_path / "split.json")
    assert said == [
        "left out: test/good/000.png (byte-identical to train/good/001.png)",
        "note: No test image is normal, so there is no AUROC.",
    ]


@pytest.mark.parametrize(("scores", "notes"), [([0.5] * 3, [EQUAL]), ([0.5, 0.5, 0.6], []), ([0.5], [])])
def test_equal_scores_are_noticed(scores, notes):
    split = draw(index(*NORMAL, ("test", "cut", "e")), "seen", 0, pool_size=1)
    types = ("good", "cut", "cut")[: len(scores)] if len(scores) > 1 else ("good", "cut")
    assert checks.of_cell(split, types, None, np.array(scores, dtype=np.float32)) == notes


def test_the_table_and_the_page_name_the_cells(tmp_path):
    cells = [cell(category, seed=seed) for category in ("carpet", "grid") for seed in range(4)]
    for of in cells:
        notes = [EMPTY, EQUAL] if (of.category, of.seed) == ("grid", 1) else [EMPTY]
        write_cell(tmp_path, of, metrics((90.0, 90.0)), notes=notes)
    lines, records = table(tmp_path, cells)
    of_grid = f"`{cells[5].folder}`"
    assert under(lines, "Noticed")[""].splitlines()[2:4] == [
        f"- {EMPTY} (`{cells[0].folder}`, `{cells[4].folder}` and 6 more)",
        f"- {EQUAL} ({of_grid})",
    ]
    assert [(of["n"], of["note"]) for of in records if of["section"] == "noticed"] == [("8", EMPTY), ("1", EQUAL)]
    text = page("a", suite(), cells, tmp_path)
    assert f"Noticed in 8: {EMPTY}" in text and f"Noticed in 1: {EQUAL}" in text

    write_cell(tmp_path, cells[0], metrics((90.0, 90.0)))
    assert not any("## Noticed" in line for line in table(tmp_path, cells[:1])[0])
