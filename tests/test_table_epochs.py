"""What choosing the epoch adds, against gains worked out by hand, with t(0.975, 2) = 4.3027 for three seeds."""

import pytest
from synthetic import cell, metrics, rows_under, table, under, write_cell

from bgad.report.collect import collect
from bgad.report.statistics import Spread
from bgad.report.tables.epochs import epochs_section, gains

HEADING = "What choosing the epoch adds"
GAINS = {"carpet": (0.0, 1.0, 2.0), "tile": (1.0, 1.0, 4.0)}


def evaluations(n):
    """A history of ``n`` evaluations, each followed by a meta epoch without one."""
    rows = []
    for epoch in range(n):
        rows.append({"epoch": 2 * epoch, "image_auroc": 90.0, "pixel_auroc": 97.0, "aupro": 93.0, "released_pro": 92.0})
        rows.append({"epoch": 2 * epoch + 1, "image_auroc": "", "pixel_auroc": "", "aupro": "", "released_pro": ""})
    return rows


def measured(root, history=5, of=GAINS, **fields):
    """Cells whose image AUROC gains are those of ``of`` by category and seed; pixel AUROC gains 0.25 and AUPRO nothing."""
    cells = []
    for category, images in of.items():
        for seed, gain in enumerate(images):
            cells.append(cell(category, seed=seed, **fields))
            write_cell(root, cells[-1], metrics((90.0, 90.0 + gain), (97.0, 97.25)), history=evaluations(history))
    return cells


def rows_of(records):
    """Of each row in the CSV: split, method, k, its label, seeds, what it notes, and the three metrics."""
    rows = {}
    for r in (r for r in records if r["section"] == "epoch_choice"):
        row = rows.setdefault((r["kind"], r["method"], r["k"], r["row"]), ["", r["note"]])
        row[0] = max(row[0], r["n"] if r["n"] == r["asked"] else f"{r['n']} of {r['asked']}")
        row.append(r["difference"] + (f" [{r['difference_low']}, {r['difference_high']}]" if r["difference_low"] else ""))
    return [[*key, *row[:5]] for key, row in rows.items()]


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        ([1.0, 2.0, 6.0], (3 - 4.302653 * 7**0.5 / 3**0.5, 3 + 4.302653 * 7**0.5 / 3**0.5)),  # sd = sqrt(14 / 2)
        ([1.0, 2.0], (1.5 - 12.706205 * 0.5, 1.5 + 12.706205 * 0.5)),  # sd / sqrt(2) = 0.5
        ([1.0, 2.0, 3.0, 4.0, 5.0], (3 - 2.776445 * 0.5**0.5, 3 + 2.776445 * 0.5**0.5)),  # sd = sqrt(2.5)
    ],
)
def test_the_interval_is_students_t(values, interval):
    assert Spread.of(values).interval == pytest.approx(interval, abs=1e-5)


@pytest.mark.parametrize("values", [[], [3.0], [2.5, 2.5, 2.5], [0.1, 0.1, 0.1]])
def test_fewer_than_two_different_values_have_no_interval(values):
    assert [str(value) for value in Spread.of(values).interval] == ["nan", "nan"]


def test_the_sentence_is_over_all_cells_with_the_interval_over_seeds(tmp_path):
    """Seeds' means 0.5, 1, 3: mean 1.5, sd sqrt(1.75) = 1.3229, half 4.3027 x 1.3229 / sqrt(3) = 3.2862."""
    section = under(table(tmp_path, measured(tmp_path))[0], HEADING)[""]
    assert "Over 6 cells with 5 evaluations each" in section
    assert "1.50 [-1.79, 4.79] in image AUROC, 0.25 in pixel AUROC and 0.00 in AUPRO on" in section
    assert "at most 4.00 in image AUROC, 0.25 in pixel AUROC and 0.00 in AUPRO in a single cell" in section
    assert "Few evaluations" in section and "the released protocol has 25." in section


def test_every_category_and_the_mean_over_them(tmp_path):
    """carpet: mean 1, sd 1, half 4.3027 / sqrt(3) = 2.4841. tile: mean 2, sd sqrt(3), half 4.3027."""
    lines, records = table(tmp_path, measured(tmp_path))
    (shown,) = rows_under(lines, HEADING)[1:]
    assert shown[:7] == ["seen", "bgad", "10", "mean over 2 categories", "3", "5", "1.50 [-1.79, 4.79]"]
    of = [r for r in records if r["section"] == "epoch_choice" and r["metric"] == "image_auroc"]
    columns = ("row", "n", "asked", "difference", "difference_low", "difference_high", "note")
    assert [[r[c] for c in columns] for r in of] == [
        ["carpet", "3", "3", "1.00", "-1.48", "3.48", "5 evaluations"],
        ["tile", "3", "3", "2.00", "-2.30", "6.30", "5 evaluations"],
        ["mean over 2 categories", "3", "3", "1.50", "-1.79", "4.79", "5 evaluations"],
    ]


def test_the_released_pro_is_only_in_the_csv(tmp_path):
    one = cell()
    write_cell(tmp_path, one, metrics((90.0, 90.0), released_pro=(80.0, 83.5)), history=evaluations(3))
    lines, records = table(tmp_path, [one])
    of = {r["metric"]: r["difference"] for r in records if r["section"] == "epoch_choice"}
    assert of == {"image_auroc": "0.00", "pixel_auroc": "0.00", "aupro": "0.00", "released_pro": "3.50"}
    assert "3.50" not in under(lines, HEADING)[""]


def test_a_seed_of_hard_splits_is_the_mean_over_its_types(tmp_path):
    """cut 0, 1, 2 and hole 2, 5, 8: seeds' means 1, 3, 5, so 3 with sd 2, half 4.3027 x 2 / sqrt(3) = 4.9683."""
    cells = measured(tmp_path, of={"carpet": (0.0, 1.0, 2.0)}, split="hard-cut")
    cells += measured(tmp_path, of={"carpet": (2.0, 5.0, 8.0)}, split="hard-hole")
    assert rows_of(table(tmp_path, cells)[1])[0][:7] == [
        "hard",
        "bgad",
        "10",
        "carpet",
        "3",
        "5 evaluations",
        "3.00 [-1.97, 7.97]",
    ]
    (tmp_path / cells[-1].folder / "metrics.json").unlink()  # hole, seed 2: what is left is 1, 3, so 2, half 12.7062
    lines, _ = table(tmp_path, cells)
    assert rows_under(lines, HEADING)[1][3:7] == ["carpet †", "2 of 3", "5", "2.00 [-10.71, 14.71]"]
    # The sentence's mean is over the five cells that are left: (0 + 1 + 2 + 2 + 5) / 5.
    assert "Over 5 cells with 5 evaluations each" in under(lines, HEADING)[""]
    assert "adds 2.00 in image AUROC" in under(lines, HEADING)[""]
    assert "this mean has no interval" in under(lines, HEADING)[""]


def test_a_category_of_which_a_cell_is_missing_is_in_no_mean(tmp_path):
    cells = measured(tmp_path)
    (tmp_path / cells[0].folder / "metrics.json").unlink()
    rows = {row[3]: row[4:7] for row in rows_of(table(tmp_path, cells)[1])}
    assert rows["carpet"] == ["2 of 3", "5 evaluations", "1.50 [-4.85, 7.85]"]
    assert rows["mean over the 1 complete of 2 categories: tile"] == ["3", "5 evaluations", "2.00 [-2.30, 6.30]"]


def test_a_single_seed_has_no_interval(tmp_path):
    lines, _ = table(tmp_path, measured(tmp_path, of={"carpet": (1.5,)}, history=25))
    section = under(lines, HEADING)[""]
    assert "Over one cell with 25 evaluations each" in section and "adds 1.50 in image AUROC, 0.25 in" in section
    assert "different cells" not in section and "little to choose" not in section
    assert rows_under(lines, HEADING)[1:] == [["seen", "bgad", "10", "carpet", "1", "25", "1.50", "0.25", "0.00"]]


def test_recipes_and_data_sets_have_a_sentence_each(tmp_path):
    cells = measured(tmp_path, of={"carpet": (1.0, 1.0)}) + measured(tmp_path, of={"brick": (3.0, 3.0)}, dataset="mini")
    section = under(table(tmp_path, cells)[0], HEADING)[""]
    assert "- mvtec, recipe cpu: over 2 cells with 5 evaluations each" in section and "adds 1.00" in section
    assert "- mini, recipe cpu: over 2 cells with 5 evaluations each" in section and "adds 3.00" in section


def test_a_single_evaluation_leaves_nothing_to_choose(tmp_path):
    cells = measured(tmp_path, history=1, of={"carpet": (0.0, 0.0)})
    lines, records = epochs_section(collect(cells, tmp_path))
    assert any("no epoch to choose" in line for line in lines)
    assert not records and not any(line.startswith("|") for line in lines)


def test_evaluations_are_counted_for_each_cell_and_unknown_without_a_history(tmp_path):
    cells = measured(tmp_path, history=4, of={"carpet": (1.0, 1.0)}) + measured(tmp_path, history=7, of={"tile": (1.0, 1.0)})
    assert "Over 4 cells with 4 to 7 evaluations each" in under(table(tmp_path, cells)[0], HEADING)[""]
    for one in cells[:2]:
        (tmp_path / one.folder / "history.csv").unlink()
    _, records = table(tmp_path, cells)
    assert [row[5].removesuffix(" evaluations") for row in rows_of(records)] == ["unknown", "7", "7 (of some unknown)"]
    of = gains(collect(cells, tmp_path))
    assert set(of.loc[of["category"] == "tile", "evaluations"]) == {7}
    assert of.loc[of["category"] == "carpet", "evaluations"].isna().all()


def test_an_undefined_metric_is_left_out_of_the_sentence(tmp_path):
    one = cell("a", dataset="mine")
    write_cell(tmp_path, one, metrics((80.0, 81.0), None, None, None), history=evaluations(3))
    lines, _ = table(tmp_path, [one])
    assert "adds 1.00 in image AUROC on average" in under(lines, HEADING)[""]
    assert rows_under(lines, HEADING)[1][6:] == ["1.00", "—", "—"]


def test_nothing_measured_is_said(tmp_path):
    lines, records = epochs_section(collect([cell()], tmp_path))
    assert lines[2:] == ["No cell of this suite is measured yet, so there is nothing to show."] and not records
