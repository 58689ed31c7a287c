"""Stale cells: what makes one, that none comes into a table, a page or an export, and what says nothing."""

import json
import shutil

import pytest
import yaml
from conftest import ROOT
from folders import make_category, write_image
from synthetic import cell, metrics, suite, table, under, write_cell

from bgad.config import methods
from bgad.config.settings import Dataset
from bgad.data.layouts import build_index
from bgad.data.splits import Split
from bgad.io import read_json
from bgad.report.collect import collect
from bgad.report.compare import OTHER, Side, compare
from bgad.report.export.tidy import write_results
from bgad.report.page.page import page
from bgad.report.stale import Today

CELLS = [cell("bottle", seed=seed) for seed in range(2)]
NEW = "changed since it was trained; run the suite again"


def split(of, pool):
    return Split(*(of.dataset, of.category, of.split, of.seed), ("train/good/0.png",), pool, (), (), (), (), ())


@pytest.fixture
def root(tmp_path):
    """A project with two finished cells of 90 and 80 % image AUROC, whose recipe and splits are there."""
    shutil.copytree(ROOT / "config/recipes", tmp_path / "config/recipes")
    for of, image in zip(CELLS, (90.0, 80.0), strict=True):
        split(of, ("test/cut/0.png",)).save(tmp_path / Today(tmp_path).split(of)[0])
        write_cell(tmp_path, of, metrics((image, image)))
    return tmp_path


def statuses(root, stale_too=False):
    return [*collect(CELLS, root, stale_too).status.values()]


def of_other_code(root, of, **_):
    values = read_json(root / of.folder / "metrics.json")
    (root / of.folder / "metrics.json").write_text(json.dumps(values | {"source_sha256": "0" * 64}))


def test_a_recipe_of_other_values_makes_all_its_cells_stale(root):
    assert statuses(root) == ["done", "done"]
    file = root / "config/recipes/cpu.yaml"
    file.write_text("# another comment\n" + file.read_text())
    assert statuses(root) == ["done", "done"]
    values = yaml.safe_load(file.read_text())
    values["schedule"]["meta_epochs"] += 1
    file.write_text(yaml.safe_dump(values))
    assert statuses(root) == [f"stale: recipe {NEW}"] * 2
    assert statuses(root, stale_too=True) == ["done", "done"]
    file.unlink()
    assert statuses(root) == ["done", "done"], "nothing to hold it against"


def test_an_image_swapped_under_its_name_makes_the_cells_of_its_category_stale(root):
    folder, index = make_category(root / "data", "bottle", types={"cut": 2}), root / "resources/index/mvtec/bottle.json"

    def indexed():
        found = build_index("mvtec", "bottle", root / "data", Dataset(path=root / "data"))
        found.save(index)
        return found.sha256

    before = indexed()
    for of, image in zip(CELLS, (90.0, 80.0), strict=True):
        write_cell(root, of, metrics((image, image)))
    assert read_json(root / CELLS[0].folder / "metrics.json")["index_sha256"] == before
    assert statuses(root) == ["done", "done"]
    write_image(folder / "test/good/000.png", "another")
    assert indexed() != before
    assert statuses(root) == [f"stale: images {NEW}"] * 2
    sides = [Side(name, [of], root) for name, of in zip("AB", CELLS, strict=True)]
    write_cell(root, CELLS[0], metrics((90.0, 90.0)))
    assert compare(*sides, stale_too=True).pairs[0].images == OTHER
    index.unlink()
    assert statuses(root) == ["done", "done"], "nothing to hold it against"


def test_other_features_make_their_cells_stale_and_a_record_without_their_hash_does_too(root):
    record = root / Today(root).features(CELLS[0]) / "features.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"sha256": read_json(root / CELLS[0].folder / "metrics.json")["features_sha256"]}))
    assert statuses(root) == ["done", "done"]
    for content in ({"sha256": "0" * 64}, {}):
        record.write_text(json.dumps(content))
        assert statuses(root) == [f"stale: features {NEW}"] * 2


def test_a_cell_older_than_a_hash_is_not_stale_for_lack_of_it(root):
    features = root / Today(root).features(CELLS[0]) / "features.json"
    features.parent.mkdir(parents=True)
    features.write_text(json.dumps({"sha256": "0" * 64}))
    for of in CELLS:
        values = read_json(root / of.folder / "metrics.json")
        del values["features_sha256"]
        (root / of.folder / "metrics.json").write_text(json.dumps(values))
    assert statuses(root) == ["done", "done"]


def test_what_cannot_be_read_did_not_make_a_cell(root):
    file = root / Today(root).split(CELLS[1])[0]
    file.write_text(file.read_text().replace("cut", "hole"))
    assert statuses(root) == ["done", f"stale: split {NEW}"]
    (root / "config/recipes/cpu.yaml").write_text("schedule: {")
    assert statuses(root) == [f"stale: recipe {NEW}"] * 2


def test_another_draw_of_a_split_makes_its_own_cells_stale(root):
    file = root / Today(root).split(CELLS[1])[0]
    split(CELLS[1], ("test/hole/0.png",)).save(file)
    assert statuses(root) == ["done", f"stale: split {NEW}"]
    of_other_code(root, CELLS[1])
    assert statuses(root) == ["done", f"stale: split and code {NEW}"]
    file.unlink()
    assert statuses(root) == ["done", f"stale: code {NEW}"]


def test_the_code_is_that_of_the_cell_s_own_method(root):
    others = [cell("bottle", k=0, method=method) for method in ("nf", *methods.other_names())]
    for of in others:
        write_cell(root, of, metrics((70.0, 70.0)))
    assert {*collect(others, root).status.values()} == {"done"}
    values = [Today(root).sha256(of)["source_sha256"] for of in (CELLS[0], *others)]
    assert values[0] == values[1]
    assert len({*values}) == len(others)


def test_a_stale_cell_is_in_no_table_no_page_and_no_export(root):
    of_other_code(root, CELLS[1])
    lines, records = table(root, CELLS)
    assert "**1 of 2 cells measured; 0 failed, 1 stale, 0 not run.**" in lines
    path = f"{CELLS[1].folder}/metrics.json"
    assert under(lines, "Missing, stale")[f"`{path}`"] == [f"stale: code {NEW}", f"`snakemake --cores all {path}`"]
    assert "90.00" in "\n".join(lines)
    assert not any("80.0" in line or "85.0" in line for line in lines)
    assert not any("80.0" in value or "85.0" in value for record in records for value in record.values())
    assert any("seed 1: stale" in record["note"] for record in records), "the row of its category says so too"

    text = page("a", suite(), CELLS, root)
    assert "1 of 2 cells measured</strong>, 1 stale." in text
    assert f"<code>{CELLS[1].folder}</code>: stale: code {NEW}" in text
    assert write_results("a", CELLS, root / "out", root) == {CELLS[1]: f"stale: code {NEW}"}
    assert "80.0" not in (root / "out/results.csv").read_text()


def test_a_comparison_takes_stale_cells_only_when_asked(root):
    of_other_code(root, CELLS[1])
    sides = [Side(name, [of], root) for name, of in zip("AB", CELLS, strict=True)]
    assert compare(*sides).unmeasured == [f"B: {CELLS[1].folder}: stale: code {NEW}"]
    found = compare(*sides, stale_too=True)
    assert found.unmeasured == []
    assert found.differences[0].means[0].of("image_auroc", "last").mean == 10
