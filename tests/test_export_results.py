"""A suite's results as one tidy table: each metric has its row, and CSV and Parquet are equal."""

import json
import re

import pandas as pd
import pytest
from conftest import ROOT
from synthetic import METRICS, cell, metrics, three_seeds, type_metrics, write, write_cell

from bgad import cli
from bgad.errors import FileError
from bgad.report.export.tidy import COLUMNS, TYPES, write_results

KEY = [*COLUMNS[:10], "metric", "rule"]


def read_both(folder) -> pd.DataFrame:
    """The table, after a check that both files hold it: values, types and order."""
    types = {name: TYPES.get(name, "string") for name in COLUMNS}
    options = {"keep_default_na": False, "na_values": [""]}
    of_csv = pd.read_csv(folder / "results.csv", dtype=types, **options)
    of_parquet = pd.read_parquet(folder / "results.parquet")
    pd.testing.assert_frame_equal(of_csv, of_parquet, check_exact=True)
    assert dict(of_parquet.dtypes.astype(str)) == types
    assert not of_parquet.duplicated(KEY).any()
    return of_parquet


def rows(table, **of) -> pd.DataFrame:
    for column, value in of.items():
        table = table[table[column].isna() if value is None else (table[column] == value).fillna(False)]
    return table


def value(table, **of) -> float:
    (found,) = rows(table, **of)["value"]
    return found


@pytest.fixture
def table(tmp_path):
    """A k10 cell with two types and two evaluations, a k0 cell with a full test, and one that was not run."""
    known, unknown, absent = cell("carpet"), cell("carpet", k=0), cell("wood")
    by_type = {"cut": type_metrics(91.25, 92.5, n=7, known=True), "NA": type_metrics(81.125, None, n=5, known=False)}
    history = [{"epoch": epoch, **dict.fromkeys(METRICS, 90)} for epoch in (3, 9)]
    released = {"image_auroc": 77.5, "pixel_auroc": 76.5, "aupro": None, "released_pro": 75.5}
    write_cell(
        tmp_path, known, metrics((97.1234, 98.5), None), by_type=by_type, history=history, released_test_command=released
    )
    write_cell(tmp_path, unknown, metrics((90.0, 91.0)), full_test=metrics((80.0, 82.0)), weights_sha256="d" * 64)
    assert write_results("a", [known, absent, unknown], tmp_path / "out", tmp_path) == {absent: "not run"}
    return read_both(tmp_path / "out")


def test_every_metric_has_a_row(table):
    assert [*table.columns] == COLUMNS
    of = {"k": 10, "test_set": "test"}
    assert value(table, **of, type=None, metric="image_auroc", rule="last") == 97.1234
    assert value(table, **of, type=None, metric="image_auroc", rule="best") == 98.5
    assert value(table, **of, type="cut", metric="image_auroc") == 91.25
    assert value(table, **of, type="cut", metric="pixel_auroc") == 92.5
    assert value(table, **of, type="NA", metric="image_auroc") == 81.125
    assert value(table, k=10, test_set="released_test_command", metric="image_auroc") == 77.5
    assert value(table, k=0, test_set="test", metric="image_auroc", rule="best") == 91
    assert value(table, k=0, test_set="full_test", metric="image_auroc", rule="best") == 82
    # 3 metrics twice, 3 of types, 3 of the released command; 4 metrics twice on two test sets
    assert len(table) == 6 + 3 + 3 + 16


def test_undefined_metrics_and_missing_cells_have_no_row(table):
    assert rows(table, k=10, type=None, test_set="test", metric="pixel_auroc").empty
    assert rows(table, type="NA", metric="pixel_auroc").empty
    assert rows(table, category="wood").empty
    assert table["value"].notna().all()


def test_a_row_says_which_epoch_and_how_many_images(table):
    everything = {"k": 10, "type": None, "test_set": "test", "metric": "aupro"}
    assert rows(table, **everything, rule="last")["epoch"].item() == 9
    assert rows(table, **everything, rule="best")["epoch"].item() == 3
    assert rows(table, **everything)["n"].tolist() == [12, 12]
    assert rows(table, type="cut")["n"].tolist() == [7, 7]
    assert rows(table, type="cut")["epoch"].tolist() == [9, 9]
    assert rows(table, type="cut")["known"].tolist() == [True, True]
    assert rows(table, type="NA")["known"].tolist() == [False]
    assert rows(table, k=0, rule="last")["epoch"].isna().all(), "there is no history.csv"
    assert rows(table, test_set="full_test")["n"].isna().all()


def test_a_row_says_where_it_comes_from(table):
    origin = {"device": "cpu", "torch": "2.14.0", "git_commit": "abc1234", "split_sha256": "a" * 64}
    assert len(rows(table, **origin)) == len(table)
    assert rows(table, k=0)["weights_sha256"].unique().tolist() == ["d" * 64]
    assert rows(table, k=10)["weights_sha256"].isna().all(), "not recorded then"


def test_cells_keep_the_order_of_the_suite(tmp_path):
    cells = three_seeds(tmp_path, "wood") + three_seeds(tmp_path, "carpet")
    write_results("a", cells[::-1], tmp_path, tmp_path)
    seen = read_both(tmp_path)[["category", "seed"]].drop_duplicates()
    assert [*seen.itertuples(index=False, name=None)] == [(one.category, one.seed) for one in cells[::-1]]


def test_the_code_of_the_guide_reads_it(tmp_path, monkeypatch, capsys):
    cells = three_seeds(tmp_path)  # image AUROC of the last epoch: 90, 92 and 97
    write_results("demo", cells, tmp_path / "reports/demo", tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/report.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(lines, names := {})
    assert rows(names["whole"], metric="image_auroc")["value"].tolist() == [90, 92, 97]
    assert " 93.0 " in capsys.readouterr().out, "their mean"


def test_the_same_cells_give_the_same_bytes(tmp_path):
    cells = three_seeds(tmp_path)
    for folder in ("one", "two"):
        write_results("a", cells, tmp_path / folder, tmp_path)
    for name in ("results.csv", "results.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_suite_without_a_finished_cell_is_an_error_and_no_file(tmp_path):
    broken = cell("wood")
    write(tmp_path, broken, "metrics.json", json.dumps({"no": "cell"}))
    with pytest.raises(FileError, match=r"suite a: .* 2 cells"):
        write_results("a", [cell("carpet"), broken], tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_command_says_how_many_are_missing(tmp_path, monkeypatch, capsys):
    (tmp_path / "config/suites").mkdir(parents=True)
    (tmp_path / "config/config.yaml").write_text("datasets: {mvtec: {}}\nsuites: [two]\n")
    block = "{recipe: cpu, dataset: mvtec, categories: [wood, tile], splits: [seen], k: [10], methods: [bgad], seeds: [0]}"
    (tmp_path / "config/suites/two.yaml").write_text(f"title: Two\nquestion: Any?\ngrid:\n  - {block}\n")
    write_cell(tmp_path, cell("wood"), metrics((90.0, 91.0)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bgad", "export", "results", "two", "--out", "reports/two"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1 and "1 of 2 cells" in said.err and f"{cell('tile').folder} (not run)" in said.err
    assert set(read_both(tmp_path / "reports/two")["category"]) == {"wood"}
