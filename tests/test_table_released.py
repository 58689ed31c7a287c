"""What the released test command counts: its section of table.csv, against numbers worked out by hand."""

from synthetic import METRICS, cell, metrics, write_cell

from bgad.report.collect import collect
from bgad.report.tables.records import released_records
from bgad.report.tables.suite import COLUMNS


def as_released(image, pro=92.0):
    return {"image_auroc": image, "pixel_auroc": 99.0, "aupro": None, "released_pro": pro}


def test_what_the_released_test_command_counts(tmp_path):
    """carpet 92, 94 and tile 96, 100: seeds 94 and 97, so 95.5 with sd sqrt(4.5) = 2.12; ours is 90 throughout."""
    values = {("carpet", 0): 92.0, ("carpet", 1): 94.0, ("tile", 0): 96.0, ("tile", 1): 100.0}
    cells = [cell(category, seed=seed) for category, seed in values]
    for one in cells:
        of = as_released(values[one.category, one.seed])
        write_cell(tmp_path, one, metrics((90.0, 95.0), aupro=None), released_test_command=of)
    of = by_row(released_records(collect(cells, tmp_path)))
    columns = ("n", "last", "last_sd", "best", "difference")
    mean = {metric: [of["mean over 2 categories", metric][c] for c in columns] for metric in METRICS}
    assert mean == {
        "image_auroc": [2, "95.50", "2.12", "", "+5.50"],
        "pixel_auroc": [2, "99.00", "0.00", "", "+1.00"],
        "aupro": [2, "", "", "", ""],
        "released_pro": [2, "92.00", "0.00", "", "-1.00"],
    }
    # carpet 93 with sd sqrt(2), tile 98 with sd sqrt(8)
    assert [of["carpet", "image_auroc"][c] for c in columns] == [2, "93.00", "1.41", "", "+3.00"]
    assert [of["tile", "image_auroc"][c] for c in columns] == [2, "98.00", "2.83", "", "+8.00"]
    assert set().union(*of.values()) <= set(COLUMNS)

    (tmp_path / cells[3].folder / "metrics.json").unlink()  # tile, seed 1
    of = by_row(released_records(collect(cells, tmp_path)))
    assert of["mean over 2 categories", "image_auroc"]["last"] == ""
    assert of["mean over the 1 complete of 2 categories: carpet", "image_auroc"]["difference"] == "+3.00"


def by_row(records):
    return {(record["row"], record["metric"]): record for record in records}


def test_without_such_counts_there_is_none(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 95.0)))
    assert released_records(collect([cell()], tmp_path)) == []


def test_a_damaged_count_is_a_failed_cell_and_named(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 95.0)), released_test_command=as_released(190.0))
    (status,) = collect([cell()], tmp_path).status.values()
    assert status.startswith("failed: ") and "released_test_command.image_auroc" in status
