"""Two results against each other: which cells are paired, what their differences are, and what is said of the rest."""

import csv
import io
import json
import math
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT
from synthetic import cell, metrics, type_metrics, write, write_cell, write_images

from bgad import cli
from bgad.errors import ConfigError
from bgad.report.compare import OTHER, SAME, UNKNOWN, Side, as_text, as_values, cells_below, compare


def finished(root, of, image, pixel=(98.0, 98.0), **changed):
    write_cell(root, of, metrics(image, pixel), **changed)
    return of


def scores(root, of, rows):
    """scores.csv of (path, anomalous, score)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([["path", "type", "anomalous", "score"], *((path, "a", label, score) for path, label, score in rows)])
    write(root, of, "scores.csv", text.getvalue())


def sides(root, *folders):
    return [cells_below(root / "results" / folder) for folder in folders]


def spread(found, metric="image_auroc", number=0):
    """a, b, a - b and the number of seeds of the first mean row."""
    row = found.differences[number].means[0]
    return *(row.of(metric, column).mean for column in ("a", "b", "last")), row.of(metric, "last").n


@pytest.fixture
def three(tmp_path):
    """k10 and k0 of carpet, three seeds: image AUROC 90, 92, 97 last and 95, 95, 99 best against 89, 90, 94 and 89, 91, 97."""
    for seed, (last, best, last0, best0) in enumerate([(90, 95, 89, 89), (92, 95, 90, 91), (97, 99, 94, 97)]):
        finished(tmp_path, cell(seed=seed), (last, best))
        finished(tmp_path, cell(seed=seed, k=0), (last0, best0))
    return tmp_path


def test_the_difference_of_means_and_its_interval_over_seeds(three):
    found = compare(*sides(three, "cpu/mvtec/carpet/seen/k10", "cpu/mvtec/carpet/seen/k0"))
    assert found.differ == ["k", "method"]
    assert spread(found) == (93, 91, 2, 3)
    # Differences 1, 2, 3: sd 1, t(0.975, 2) = 4.30265
    half = 4.302652729911275 / math.sqrt(3)
    assert found.differences[0].means[0].of("image_auroc", "last").interval == pytest.approx((2 - half, 2 + half))
    assert found.differences[0].pairs == len(found.pairs) == 3
    assert (found.unpaired, found.unmeasured, found.by_type) == ([], [], None)


def test_best_epochs_only_where_they_are_asked_for(three):
    both = sides(three, "cpu/mvtec/carpet/seen/k10", "cpu/mvtec/carpet/seen/k0")
    assert spread(compare(*both, "best")) == pytest.approx((289 / 3, 277 / 3, 4, 3))
    assert "of the best epochs" in as_text(*both, "best", compare(*both, "best"))


def test_a_cell_without_a_partner_and_one_without_metrics_are_named_and_left_out(three):
    finished(three, cell(seed=3), (50.0,) * 2)
    write(three, cell(seed=4), "train.log", "epoch 1\nerror: no room.\n")
    finished(three, cell(seed=4, k=0), (10.0,) * 2)
    both = sides(three, "cpu/mvtec/carpet/seen/k10", "cpu/mvtec/carpet/seen/k0")
    found = compare(*both)
    assert spread(found) == (93, 91, 2, 3)
    assert found.unpaired == ["A: results/cpu/mvtec/carpet/seen/k10/bgad/seed3: no partner"]
    assert found.unmeasured == ["A: results/cpu/mvtec/carpet/seen/k10/bgad/seed4: failed: no room."]
    text = as_text(*both, "last", found)
    assert "3 pairs of measured cells" in text
    assert "3 of 4" in text
    assert found.unpaired[0] in text
    assert found.unmeasured[0] in text


def test_a_mean_over_categories_is_over_those_of_which_every_pair_is_there(three):
    for seed in range(3):
        finished(three, cell("tile", seed=seed), (80.0, 80.0))
        finished(three, cell("tile", seed=seed, k=0), (76.0, 76.0))
    write(three, cell("wood"), "train.log", "")
    finished(three, cell("wood", k=0), (10.0, 10.0))
    k10 = [cell(category, seed=seed) for category in ("carpet", "tile", "wood") for seed in range(3)][:7]
    k0 = [cell(category, seed=seed, k=0) for category in ("carpet", "tile", "wood") for seed in range(3)][:7]
    found = compare(Side("ten", k10, three), Side("none", k0, three))
    row = found.differences[0].means[0]
    assert row.label == "mean over the 2 complete of 3 categories, without wood"
    assert spread(found) == pytest.approx((86.5, 83.5, 3, 3))
    assert [row.label for row in found.differences[0].categories] == ["carpet", "tile", "wood"]


def test_recipes_are_compared_setting_by_setting(three):
    for seed in range(3):
        finished(three, cell(seed=seed, recipe="other"), (90.0, 90.0))
        finished(three, cell(seed=seed, k=0, recipe="other"), (91.0, 91.0))
    found = compare(*sides(three, "cpu", "other"))
    assert found.differ == ["recipe"]
    assert [(one.setting.k, one.against.k, one.against.recipe) for one in found.differences] == [
        (0, 0, "other"),
        (10, 10, "other"),
    ]
    assert spread(found) == (91, 91, 0, 3)
    assert spread(found, number=1) == (93, 90, 3, 3)


def test_the_interval_covers_the_test_images_that_both_sides_share(three):
    ten, none = (cell(k=10), cell(k=0))
    easy = np.random.default_rng(0).normal(size=60)
    for of, more in ((ten, 0.1), (none, 0.0)):
        write_images(three, of, easy + more * np.random.default_rng(of.k).normal(size=60))
    both = Side("ten", [ten], three), Side("none", [none], three)
    values = as_values(*both, "last", compare(*both))["differences"][0]["metrics"]["image_auroc"]
    assert (values["difference"], values["covers"], values["seeds"]) == (1, "test images", 1)
    # The two score nearly alike, so the interval is far narrower than that of one AUROC of 90 from 20 and 40 images.
    assert -4 < values["low"] < 1 < values["high"] < 6
    text = as_text(*both, "last", compare(*both))
    assert next(line for line in text.splitlines() if "image AUROC" in line).split()[-3:] == ["test", "images", "1"]
    # Other images under the same names, and the best epochs, leave the seeds, and one seed has no interval.
    for rule, found in (("best", compare(*both, "best")), ("last", compare(*_with_other_images(three, ten, none)))):
        values = as_values(*both, rule, found)["differences"][0]["metrics"]["image_auroc"]
        assert (values["low"], values["high"], values["covers"]) == (None, None, None)


def _with_other_images(root, ten, none):
    finished(root, none, (89.0, 89.0), index_sha256="1" * 64)
    return Side("ten", [ten], root), Side("none", [none], root)


def test_one_seed_without_images_has_no_interval(three):
    both = sides(three, "cpu/mvtec/carpet/seen/k10/bgad/seed0", "cpu/mvtec/carpet/seen/k0/bgad-wo/seed0")
    found = compare(*both)
    assert spread(found) == (90, 89, 1, 1)
    values = as_values(*both, "last", found)["differences"][0]["metrics"]["image_auroc"]
    assert values == {"a": 90, "b": 89, "difference": 1, "low": None, "high": None, "covers": None, "seeds": 1, "asked": 1}


def test_single_cells_also_by_type_on_the_same_test_images(tmp_path):
    one = finished(tmp_path, cell(), (90.0, 90.0), by_type={"cut": type_metrics(91.0, 97.0), "dent": type_metrics(80.0)})
    other = finished(tmp_path, cell(k=0), (88.0, 88.0), by_type={"cut": type_metrics(90.0, 98.0, known=False)})
    both = [Side("A", [one], tmp_path), Side("B", [other], tmp_path)]
    assert compare(*both).pairs[0].test_images == UNKNOWN
    labels = [("n1", 0), ("n2", 0), ("n3", 0), ("a1", 1), ("a2", 1), ("a3", 1)]
    scores(tmp_path, one, [(*of, score) for of, score in zip(labels, [0.1, 0.2, 0.3, 0.4, 0.25, 0.6], strict=True)])
    scores(tmp_path, other, [(*of, score) for of, score in zip(labels, [0.1, 0.3, 0.5, 0.4, 0.2, 0.6], strict=True)][::-1])
    found = compare(*both)
    assert found.pairs[0].split == found.pairs[0].test_images == SAME
    (row,) = found.by_type.to_dict("records")
    assert (row["type"], row["known_a"], row["known_b"], row["image_auroc_a"] - row["image_auroc_b"]) == ("cut", True, False, 1)
    text = as_text(*both, "last", found)
    assert "WARNING" not in text
    assert ["cut", "10", "yes", "no", "91.00", "90.00", "+1.00", "97.00", "98.00", "-1.00"] in map(str.split, text.splitlines())


def test_other_test_images_are_flagged(tmp_path):
    one, other = cell(seed=0), cell(seed=1)
    for of, digit in ((one, "1"), (other, "2")):
        finished(tmp_path, of, (90.0, 90.0), split_sha256=digit * 64)
        scores(tmp_path, of, [("n", 0, 0.1), ("a" + digit, 1, 0.2)])
    both = [Side("A", [one], tmp_path), Side("B", [other], tmp_path)]
    found = compare(*both)
    assert found.differ == ["seed"]
    assert (found.pairs[0].split, found.pairs[0].test_images) == (OTHER, OTHER)
    assert "WARNING" in as_text(*both, "last", found)


def test_the_same_paths_with_other_images_are_not_called_the_same_test_images(tmp_path):
    one, other = cell(seed=0), cell(seed=1)
    for of, digit in ((one, "1"), (other, "2")):
        finished(tmp_path, of, (90.0, 90.0), index_sha256=digit * 64, features_sha256=digit * 64)
        scores(tmp_path, of, [("n", 0, 0.1), ("a", 1, 0.2)])
    both = [Side("A", [one], tmp_path), Side("B", [other], tmp_path)]
    found = compare(*both)
    pair = found.pairs[0]
    assert (pair.images, pair.features, pair.test_images) == (OTHER, OTHER, UNKNOWN)
    text = as_text(*both, "last", found)
    assert "index_sha256): different" in text and "features_sha256): different" in text and "WARNING" in text
    assert as_values(*both, "last", found)["pairs"][0]["test_images"] == UNKNOWN


def test_the_same_cell_of_two_projects_can_be_compared(tmp_path):
    for name, image in (("here", 90.0), ("there", 85.0)):
        finished(tmp_path / name, cell(), (image, image))
    found = compare(*(cells_below(tmp_path / name) for name in ("here", "there")))
    assert (found.differ, spread(found)) == ([], (90, 85, 5, 1))
    with pytest.raises(ConfigError, match="several projects"):
        cells_below(tmp_path)


def test_what_cannot_be_compared_is_one_sentence(three):
    finished(three, cell(k=0, method="nf"), (80.0, 80.0))
    finished(three, cell("tile"), (80.0, 80.0))
    k10, k0, tile = sides(three, "cpu/mvtec/carpet/seen/k10", "cpu/mvtec/carpet/seen/k0", "cpu/mvtec/tile")
    with pytest.raises(ConfigError, match=r"k10/bgad/seed0 .* 2 cells of .*bgad-wo/seed0 and .*nf/seed0"):
        compare(k10, k0)
    with pytest.raises(ConfigError, match="the same dataset, category, recipe, split, k, method and seed"):
        compare(k10, tile)
    with pytest.raises(ConfigError, match=r"seed0 is in both"):
        compare(k10, k10)
    with pytest.raises(ConfigError, match="nothing: contains no cell"):
        cells_below(three / "nothing")


def test_nothing_measured_yet_is_said(tmp_path):
    for of in (cell(), cell(k=0)):
        write(tmp_path, of, "train.log", "epoch 1\n")
    both = sides(tmp_path, "cpu/mvtec/carpet/seen/k10", "cpu/mvtec/carpet/seen/k0")
    found = compare(*both)
    assert [line.rpartition(": ")[2] for line in found.unmeasured] == ["interrupted", "interrupted"]
    assert "0 pairs of measured cells" in as_text(*both, "last", found)
    json.dumps(as_values(*both, "last", found), allow_nan=False)


def test_the_command_on_suites_and_folders(three, capsys, monkeypatch):
    # Without the recipes, whose hashes the cells do not have.
    shutil.copytree(ROOT / "config", three / "config", ignore=shutil.ignore_patterns("recipes"))
    (three / "config/suites/mine.yaml").write_text(
        "title: Mine\nquestion: '?'\ngrid:\n"
        "  - {recipe: cpu, dataset: mvtec, categories: [carpet], splits: [seen], k: [10], methods: [bgad],"
        " seeds: [0, 1, 2, 3]}"
    )
    monkeypatch.chdir(three)
    monkeypatch.setattr(sys, "argv", ["bgad", "compare", "mine", "results/cpu/mvtec/carpet/seen/k0", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    values = json.loads(capsys.readouterr().out)
    assert values["differences"][0]["metrics"]["image_auroc"]["difference"] == 2
    assert values["unpaired"] == ["A: results/cpu/mvtec/carpet/seen/k10/bgad/seed3: no partner"]
