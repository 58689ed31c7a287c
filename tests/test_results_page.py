"""The pages' tables of results: what is stored of a suite, the blocks made of it, and what they say of changed code."""

import json

import pytest
from conftest import ROOT
from synthetic import cell, metrics, result_rows, type_metrics, write_cell

from bgad.errors import FileError
from bgad.report import results_page
from bgad.report.results_page import PAGES, store, suites_of, write_pages, written

BLOCK = "before\n<!-- results:begin a {} -->\nold\n<!-- results:end -->\nafter\n"


@pytest.fixture
def project(tmp_path):
    """The recipe and 12 cells: carpet and tile with nf, bgad-wo and bgad at k 10, two seeds; bgad gains 5 and 4."""
    (tmp_path / "config/recipes").mkdir(parents=True)
    (tmp_path / "config/recipes/cpu.yaml").write_text((ROOT / "config/recipes/cpu.yaml").read_text())
    cells = [
        cell(category, k=k, method=method, seed=seed)
        for k, method in ((0, "nf"), (0, "bgad-wo"), (10, "bgad"))
        for category in ("carpet", "tile")
        for seed in (0, 1)
    ]
    for one in cells:
        image = {"nf": 80.0, "bgad-wo": 85.0, "bgad": 90.0 - one.seed}[one.method]
        types = {"cut": type_metrics(image, known=one.k > 0), "hole": type_metrics(image, known=False)}
        write_cell(tmp_path, one, metrics((image, image + 1)), by_type=types)
    return tmp_path, cells


def made(root, what="results"):
    return written(BLOCK.format(what), root / "README.md", root).splitlines()


def test_what_is_stored_makes_the_tables(project):
    root, cells = project
    said = store("a", cells, root)
    assert "from 12 of 12 cells" in said and "Without" not in said
    lines = made(root)
    assert (lines[0], lines[1], lines[-2:]) == (
        "before",
        BLOCK.format("results").splitlines()[1],
        ["<!-- results:end -->", "after"],
    )
    assert "old" not in lines
    rows = result_rows(lines, "image AUROC")
    assert [head.partition(",")[0] for head in rows["image AUROC"]] == ["nf", "bgad-wo", "bgad"]
    assert rows["mean over 2 categories"][2].startswith("89.50 [") and list(rows)[1:3] == ["carpet", "tile"]
    assert list(result_rows(made(root, "results row=tile k=0 metric=aupro"), "AUPRO")) == ["AUPRO", "tile"]


def test_differences_have_a_row_for_each_category_and_a_column_for_each_comparison(project):
    root, cells = project
    store("a", cells, root)
    rows = result_rows(made(root, "differences against=bgad-wo"), "image AUROC, seen")
    assert rows["image AUROC, seen"] == ["bgad - bgad-wo, k = 10"]
    assert list(rows)[1:] == ["carpet", "tile", "mean over 2 categories"]
    assert rows["tile"][0].strip("*").startswith("+4.50")
    assert "tile" in result_rows(made(root, "differences"), "pixel AUROC, seen, known types")


def test_a_block_says_where_its_numbers_come_from_and_when_something_has_changed(project, monkeypatch):
    root, cells = project
    store("a", cells, root)
    origin = made(root)[2]
    facts = json.loads((root / "reports/measured/a.json").read_text())
    for part in (
        "12 of 12 cells",
        facts["date"],
        "commit abc1234",
        facts["recipes"]["cpu"][:12],
        facts["sources"]["bgad"][:12],
    ):
        assert part in origin
    assert "earlier version" not in origin
    recipe = root / "config/recipes/cpu.yaml"
    text = recipe.read_text()
    recipe.write_text(text + "\nseed_of_this_test: 1\n")  # a damaged recipe is another one, too
    assert "**Measured with an earlier version:** since then, recipe `cpu` changed." in made(root)[2]
    recipe.write_text(text)
    monkeypatch.setattr(results_page, "method_sha256", lambda method: "0" * 64 if method == "nf" else facts["sources"][method])
    assert "since then, code of nf changed." in made(root)[2]


def test_only_complete_and_current_rows_are_stored_and_what_is_missing_is_said(project):
    root, cells = project
    (root / cells[0].folder / "metrics.json").unlink()  # nf, carpet
    write_cell(root, cells[-1], metrics((99.0, 99.0)), source_sha256="0" * 64)  # bgad, tile
    said = store("a", cells, root)
    assert "from 10 of 12 cells" in said
    assert f"{cells[0].folder}: not run" in said and f"{cells[-1].folder}: stale" in said
    rows = result_rows(made(root), "image AUROC")
    assert rows["carpet"][0] == "" and rows["tile"][2] == "" and rows["mean over 2 categories"][0] == ""
    assert rows["carpet"][2].startswith("89.50")


def test_fewer_rows_do_not_replace_more(project):
    root, cells = project
    store("a", cells, root)
    before = (root / "reports/measured/a.csv").read_bytes()
    for one in cells[4:]:
        (root / one.folder / "metrics.json").unlink()
    assert "kept" in store("a", cells, root)
    assert (root / "reports/measured/a.csv").read_bytes() == before
    (root / "reports/measured/a.csv").unlink()
    assert "wrote" in store("a", cells, root)


def test_what_is_not_measured_of_a_stored_suite_is_said(project):
    root, cells = project
    store("a", cells, root)
    assert made(root, "results dataset=other")[2:4] == ["Not measured yet.", "<!-- results:end -->"]


def test_nothing_measured_stores_nothing_and_leaves_the_block(project, tmp_path):
    root, _ = project
    store("a", [cell("zipper")], root)
    assert not (root / "reports/measured").exists()
    assert "old" in made(root)


@pytest.mark.parametrize("what", ["pictures", "results no=1"])
def test_an_unknown_view_or_column_is_an_error_that_names_it(project, what):
    root, cells = project
    store("a", cells, root)
    with pytest.raises(FileError, match=f"README.md: <!-- results:begin a {what}"):
        made(root, what)


def test_a_damaged_record_is_an_error_that_names_it(project):
    root, cells = project
    store("a", cells, root)
    for name in ("a.json", "a.csv"):
        (root / "reports/measured" / name).write_text("[]")
        with pytest.raises(FileError, match=f"{name}: damaged"):
            made(root)


def test_pages_are_written_in_place(project):
    root, cells = project
    store("a", cells, root)
    page = root / "README.md"
    page.write_text(BLOCK.format("results") + BLOCK.format("differences"))
    assert suites_of([page]) == ["a"]
    write_pages([page], root)
    first = page.read_text()
    assert "old" not in first and first.count("after") == 2
    write_pages([page], root)
    assert page.read_text() == first


@pytest.mark.parametrize("name", PAGES)
def test_this_project_s_pages_are_as_make_results_page_writes_them(name):
    """If this fails, run make results-page: the code, a recipe or the record has changed since the page was written."""
    page = ROOT / name
    assert suites_of([page])
    assert written(page.read_text(encoding="utf-8"), page, ROOT) == page.read_text(encoding="utf-8")
