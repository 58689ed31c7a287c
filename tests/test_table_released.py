"""What the released test command counts: its section of a suite's table, against numbers worked out by hand."""

from synthetic import cell, metrics, under, write_cell

from bgad.report.collect import collect
from bgad.report.tables.released import released_section
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
    lines, records = released_section(collect(cells, tmp_path))
    rows = under(lines, "With the released test command")
    head, shown = rows["setting"], rows["mvtec, seen, k = 10, bgad, recipe cpu"]
    assert head[2:] == ["image AUROC", "- last", "pixel AUROC", "- last", "AUPRO", "- last", "PRO (released)", "- last"]
    assert shown[:4] == ["2 categories", "2", "95.50 ± 2.12", "+5.50"]
    assert shown[4:] == ["99.00 ± 0.00", "+1.00", "—", "—", "92.00 ± 0.00", "-1.00"]
    assert "known anomalies in" in rows[""]
    of = {r["row"]: (r["last"], r["last_sd"], r["best"]) for r in records if r["metric"] == "image_auroc"}
    # carpet 93 with sd sqrt(2), tile 98 with sd sqrt(8)
    assert of["carpet"] == ("93.00", "1.41", "") and of["tile"] == ("98.00", "2.83", "")
    assert set().union(*records) <= set(COLUMNS)

    (tmp_path / cells[3].folder / "metrics.json").unlink()  # tile, seed 1
    lines, _ = released_section(collect(cells, tmp_path))
    shown = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines if line.startswith("| mvtec")]
    assert [row[1:5] for row in shown] == [
        ["2 categories †", "0", "—", "—"],
        ["the 1 complete of 2 categories: carpet †", "2", "93.00 ± 1.41", "+3.00"],
    ]


def test_without_such_counts_it_says_so(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 95.0)))
    lines, records = released_section(collect([cell()], tmp_path))
    assert "No measured cell" in lines[-1] and not records


def test_a_damaged_count_is_a_failed_cell_and_named(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 95.0)), released_test_command=as_released(190.0))
    (status,) = collect([cell()], tmp_path).status.values()
    assert status.startswith("failed: ") and "released_test_command.image_auroc" in status
