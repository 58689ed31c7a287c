"""Whether the boundary and the known anomalies help: paired differences worked out by hand, t(0.975, 2) = 4.3027."""

import pytest
from synthetic import (
    cell,
    differences,
    few_replicates,  # noqa: F401
    metrics,
    rows_under,
    table,
    type_metrics,
    under,
    write_cell,
    write_images,
)

from bgad.report.collect import collect
from bgad.report.statistics import HELPS, HURTS, NO_DIFFERENCE, Chance, Spread, judgement, number, signed
from bgad.report.tables.claim import claim_section

HEADING = "What helps"
# Image AUROC of seeds 0, 1, 2. Paired, bgad-wo - nf is 1, 2, 3 in carpet and 3, 4, 2 in tile: seeds' means 2, 3, 2.5.
LEVELS = {
    "nf": {"carpet": (80.0, 82.0, 90.0), "tile": (70.0, 60.0, 65.0)},
    "bgad-wo": {"carpet": (81.0, 84.0, 93.0), "tile": (73.0, 64.0, 67.0)},
    "bgad": {"carpet": (80.0, 84.0, 94.0), "tile": (83.0, 74.0, 77.0)},
}


def measured(root, levels, split="seen", **types):
    """Cells with the image AUROC of ``levels`` (method -> category -> seeds) as last, and best 100; bgad has k = 10."""
    cells = []
    for method, categories in levels.items():
        for category, images in categories.items():
            for seed, image in enumerate(images):
                one = cell(category, split, 10 if method == "bgad" else 0, method, seed)
                write_cell(root, one, metrics((image, 100.0)), by_type=types.get(method.replace("-", "_")))
                write_images(root, one, types=list(types.get(method.replace("-", "_")) or ["cut"]))
                cells.append(one)
    return cells


def remove(root, one):
    (root / one.folder / "metrics.json").unlink()


def test_differences_are_paired_over_seeds_with_their_interval(tmp_path):
    """Means over both categories: 2, 3, 2.5, so 2.5 with sd 0.5, half 4.3027 x 0.5 / sqrt(3) = 1.2421.

    bgad - bgad-wo: -1, 0, 1 and 10, 10, 10, so 4.5, 5, 5.5: 5 with the same half. bgad - nf: 0, 2, 4 and 13, 14, 12, so
    6.5, 8, 8: 7.5 with sd sqrt(0.75), half 2.1513. A category's half is 4.3027 / sqrt(3) = 2.4841 for sd 1.
    """
    lines, records = table(tmp_path, measured(tmp_path, LEVELS))
    rows = differences(records)
    assert [(*key, *row[:2]) for key, row in rows.items()] == [
        ("bgad-wo - nf", "seen", "0", "mean over 2 categories", "3", "+2.50 [+1.26, +3.74] helps"),
        ("bgad - bgad-wo", "seen", "10", "mean over 2 categories", "3", "+5.00 [+3.76, +6.24] helps"),
        ("bgad - nf", "seen", "10", "mean over 2 categories", "3", "+7.50 [+5.35, +9.65] helps"),
        ("bgad-wo - nf", "seen", "0", "carpet", "3", "+2.00 [-0.48, +4.48] no difference seen"),
        ("bgad-wo - nf", "seen", "0", "tile", "3", "+3.00 [+0.52, +5.48] helps"),
        ("bgad - bgad-wo", "seen", "10", "carpet", "3", "+0.00 [-2.48, +2.48] no difference seen"),
        ("bgad - bgad-wo", "seen", "10", "tile", "3", "+10.00 [+10.00, +10.00]"),  # equal: of no width
        ("bgad - nf", "seen", "10", "carpet", "3", "+2.00 [-2.97, +6.97] no difference seen"),
        ("bgad - nf", "seen", "10", "tile", "3", "+13.00 [+10.52, +15.48] helps"),
    ]
    # Pixel AUROC and AUPRO are the same everywhere.
    assert all(row[2:] == ["+0.00 [+0.00, +0.00]"] * 2 for row in rows.values())
    shown = [row[:6] for row in rows_under(lines, HEADING)[1:]]  # the means, without both together
    wo, bgad = list(rows)[:2]
    assert shown[0] == ["the explicit boundary (bgad-wo - nf)", *wo[1:], *rows[wo][:2]]
    assert shown[1:] == [["the known anomalies (bgad - bgad-wo)", *bgad[1:], *rows[bgad][:2]]]


def test_what_the_tables_hold_is_counted(tmp_path):
    """Three comparisons over the categories and six for one, of three metrics each; only image AUROC differs from seed to
    seed, and helps."""
    section = under(table(tmp_path, measured(tmp_path, LEVELS))[0], HEADING)[""]
    words = "helps in 1, hurts in 0, no difference seen in 0 of the 1 mean differences"
    assert f"- **the explicit boundary (bgad-wo - nf)**: {words}." in section
    assert f"- **both together (bgad - nf)**: {words}." in section
    assert " 27 such intervals" in section and "one in twenty" in section


def test_the_csv_names_both_sides(tmp_path):
    _, records = table(tmp_path, measured(tmp_path, LEVELS))
    columns = ("dataset", "kind", "k", "method", "against", "n", "asked", "difference", "difference_low", "difference_high")
    of = [r for r in records if r["section"] == "claim" and r["metric"] == "image_auroc"]
    assert len(of) == 9
    assert [of[0][c] for c in columns] == ["mvtec", "seen", "0", "bgad-wo", "nf", "3", "3", "+2.50", "+1.26", "+3.74"]
    assert (of[0]["row"], of[0]["verdict_difference"]) == ("mean over 2 categories", "helps")


def test_a_missing_cell_removes_its_pair_and_its_category_from_the_mean(tmp_path):
    """Without nf's carpet, seed 1, carpet has 1 and 3: mean 2, sd sqrt(2), half 12.7062."""
    cells = measured(tmp_path, LEVELS)
    remove(tmp_path, cells[1])
    rows = differences(table(tmp_path, cells)[1])
    assert rows["bgad-wo - nf", "seen", "0", "carpet"][:2] == ["2 of 3", "+2.00 [-10.71, +14.71] no difference seen"]
    key = ("bgad-wo - nf", "seen", "0", "mean over the 1 complete of 2 categories: tile")
    assert rows[key][:2] == ["3", "+3.00 [+0.52, +5.48] helps"]
    assert rows["bgad - bgad-wo", "seen", "10", "mean over 2 categories"][1] == "+5.00 [+3.76, +6.24] helps"


def test_a_mean_without_a_whole_category_is_not_measured(tmp_path):
    cells = measured(tmp_path, {method: LEVELS[method] for method in ("nf", "bgad-wo")})
    remove(tmp_path, cells[0])
    for seed in range(3, 6):
        remove(tmp_path, cells[seed])
    _, records = table(tmp_path, cells)
    rows = differences(records)
    assert rows["bgad-wo - nf", "seen", "0", "mean over 2 categories"] == ["0 of 3", *["not measured"] * 3]
    assert rows["bgad-wo - nf", "seen", "0", "tile"] == ["0 of 3", *["not measured"] * 3]
    assert rows["bgad-wo - nf", "seen", "0", "carpet"][0] == "2 of 3"
    of = [r for r in records if r["section"] == "claim" and r["row"] == "tile"]
    assert [(r["difference"], r["verdict_difference"]) for r in of] == [("", "not measured")] * 4


def test_an_undefined_metric_is_a_dash_and_no_judgement(tmp_path):
    cells = [cell("a", k=0, method=method, seed=seed, dataset="mine") for method in ("nf", "bgad-wo") for seed in (0, 1)]
    for one in cells:
        write_cell(tmp_path, one, metrics((80.0, 80.0), None, None, None))
    rows = differences(table(tmp_path, cells)[1])
    assert rows == {("bgad-wo - nf", "seen", "0", "a"): ["2", "+0.00", "—", "—"]}


def test_hard_types_are_averaged_first(tmp_path):
    """cut 0, 0, 3 and hole 2, 4, 3: seeds' means 1, 2, 3, so 2 with sd 1; without hole's seed 0, 2 and 3 are left."""
    cells = measured(tmp_path, {"bgad-wo": {"carpet": (80, 81, 82)}, "bgad": {"carpet": (80, 81, 85)}}, "hard-cut")
    cells += measured(tmp_path, {"bgad-wo": {"carpet": (70, 71, 72)}, "bgad": {"carpet": (72, 75, 75)}}, "hard-hole")
    (key, row), *rest = differences(table(tmp_path, cells)[1]).items()
    assert key == ("bgad - bgad-wo", "hard", "10", "carpet") and not rest  # a single category has no mean over categories
    assert row[:2] == ["3", "+2.00 [-0.48, +4.48] no difference seen"]
    remove(tmp_path, cells[9])
    (row,) = differences(table(tmp_path, cells)[1]).values()
    assert row[:2] == ["2 of 3", "+2.50 [-3.85, +8.85] no difference seen"]


def test_known_and_unseen_types_of_seen_splits_apart(tmp_path):
    """Of bgad - bgad-wo, cut and hole (known) gain 4 and 2, mean 3; oil (unseen) loses 5. There is nothing of AUPRO."""
    wo = {"cut": type_metrics(80.0), "hole": type_metrics(90.0), "oil": type_metrics(75.0, 91.0)}
    wo = {name: values | {"known": False} for name, values in wo.items()}
    bgad = {"cut": type_metrics(84.0), "hole": type_metrics(92.0), "oil": type_metrics(70.0, 90.0, known=False)}
    levels = {"bgad-wo": {"carpet": (80.0, 80.0)}, "bgad": {"carpet": (81.0, 81.0)}}
    _, records = table(tmp_path, measured(tmp_path, levels, bgad_wo=wo, bgad=bgad))
    rows = {key[1]: row[1:] for key, row in differences(records).items()}
    assert rows["seen"][0] == "+1.00 [+1.00, +1.00]"
    assert rows["seen, known types"] == ["+3.00 [+3.00, +3.00]", "+0.00 [+0.00, +0.00]", "—"]
    assert rows["seen, unseen types"] == ["-5.00 [-5.00, -5.00]", "-1.00 [-1.00, -1.00]", "—"]
    assert {r["row"] for r in records if r["section"] == "claim"} == {"carpet", "carpet, known types", "carpet, unseen types"}


def test_types_are_compared_only_with_all_of_their_counterparts_and_in_the_categories_that_have_them(tmp_path):
    """carpet's hole has no pixel AUROC without known anomalies, so its known types have no pixel difference; tile has no
    type that is unseen, so it takes no part there."""
    wo = {"cut": type_metrics(80.0, 97.0), "hole": type_metrics(90.0, None), "oil": type_metrics(75.0)}
    bgad = {"cut": type_metrics(84.0), "hole": type_metrics(92.0), "oil": type_metrics(70.0, known=False)}
    cells = measured(tmp_path, {"bgad-wo": {"carpet": (80.0,) * 2}, "bgad": {"carpet": (81.0,) * 2}}, bgad_wo=wo, bgad=bgad)
    levels = {"bgad-wo": {"tile": (80.0,) * 2}, "bgad": {"tile": (81.0,) * 2}}
    cells += measured(tmp_path, levels, bgad_wo={"cut": wo["cut"]}, bgad={"cut": bgad["cut"]})
    rows = {key[1:4:2]: row[1:3] for key, row in differences(table(tmp_path, cells)[1]).items()}
    assert rows["seen, known types", "carpet"] == ["+3.00 [+3.00, +3.00]", "—"]
    assert rows["seen, known types", "tile"] == ["+4.00 [+4.00, +4.00]", "+1.00 [+1.00, +1.00]"]
    assert rows["seen, known types", "mean over 2 categories"] == ["+3.50 [+3.50, +3.50]", "—"]
    assert rows["seen, unseen types", "carpet"][0] == "-5.00 [-5.00, -5.00]"
    assert [over for split, over in rows if split == "seen, unseen types"] == ["carpet"]


def test_a_category_that_is_not_measured_yet_is_asked_of_its_types_too(tmp_path):
    """carpet and tile gain 4 in cut; oil loses 5 in carpet and 3 in tile. grid is not measured, so that its types are not
    known, and no mean may pass for one over all; leather is measured and has no unseen type, so it has no part in those."""
    wo = {"cut": type_metrics(80.0), "oil": type_metrics(75.0)}
    levels = {"bgad-wo": (80.0, 80.0), "bgad": (81.0, 81.0)}
    cells = []
    for category, oil in {"carpet": 70.0, "tile": 72.0, "leather": None, "grid": 70.0}.items():
        bgad = {"cut": type_metrics(84.0)} | ({"oil": type_metrics(oil, known=False)} if oil else {})
        cells += measured(tmp_path, {method: {category: of} for method, of in levels.items()}, bgad_wo=wo, bgad=bgad)
    for one in cells[-2:]:  # bgad of grid
        remove(tmp_path, one)
    rows = {key[1:4:2]: row[:2] for key, row in differences(table(tmp_path, cells)[1]).items()}
    asked = {over for split, over in rows if split == "seen, known types"}
    assert "mean over the 3 complete of 4 categories, without grid" in asked and "mean over 4 categories" not in asked
    key = ("seen, unseen types", "mean over the 2 complete of 3 categories, without grid")
    assert rows[key] == ["2", "-4.00 [-4.00, -4.00]"]
    assert rows["seen, unseen types", "grid"] == ["0 of 2", "not measured"]
    assert ("seen, unseen types", "leather") not in rows


def test_the_released_pro_is_only_in_the_csv(tmp_path):
    cells = measured(tmp_path, {method: {"carpet": LEVELS[method]["carpet"]} for method in ("nf", "bgad-wo")})
    for one in cells:
        write_cell(tmp_path, one, metrics((80.0, 80.0), released_pro=(90.0 + (one.method == "bgad-wo"),) * 2))
    lines, records = table(tmp_path, cells)
    of = {r["metric"]: r["difference"] for r in records if r["section"] == "claim"}
    assert of == {"image_auroc": "+0.00", "pixel_auroc": "+0.00", "aupro": "+0.00", "released_pro": "+1.00"}
    section = under(lines, HEADING)[""]
    assert "PRO (released)" not in section and "+1.00" not in section and " 3 such intervals" in section


def test_a_difference_over_fewer_types_than_at_another_k_says_so(tmp_path):
    """cut is there at k 1 and 10, hole at k 1 only."""
    levels = {"bgad-wo": 80.0, "bgad": 82.0}
    cells = []
    for k, kinds in {0: ("cut", "hole"), 1: ("cut", "hole"), 10: ("cut",)}.items():
        for kind in kinds:
            cells.append(cell("carpet", f"hard-{kind}", k))
            write_cell(tmp_path, cells[-1], metrics((levels[cells[-1].method], 100.0)))
    lines, records = table(tmp_path, cells)
    assert [row[3] for row in rows_under(lines, HEADING)[1:]] == ["carpet", "carpet (over 1 of 2 types)"]
    assert [key[2:] for key in differences(records)] == [("1", "carpet"), ("10", "carpet")]
    of = [r for r in records if r["section"] == "claim" and r["metric"] == "aupro"]
    assert [(r["row"], r["note"]) for r in of] == [("carpet", ""), ("carpet", "over 1 of 2 types")]


def test_types_are_not_set_apart_where_all_are_known(tmp_path):
    types = {"cut": type_metrics(84.0)}
    levels = {"bgad-wo": {"carpet": (80.0, 80.0)}, "bgad": {"carpet": (81.0, 81.0)}}
    _, records = table(tmp_path, measured(tmp_path, levels, bgad_wo=types, bgad=types))
    assert [key[1] for key in differences(records)] == ["seen"]


def test_a_missing_k0_cell_removes_the_seed_of_its_types(tmp_path):
    wo = {"cut": type_metrics(80.0, known=False), "oil": type_metrics(75.0, known=False)}
    bgad = {"cut": type_metrics(84.0), "oil": type_metrics(70.0, known=False)}
    levels = {"bgad-wo": {"carpet": (80.0, 80.0, 80.0)}, "bgad": {"carpet": (81.0, 81.0, 81.0)}}
    cells = measured(tmp_path, levels, bgad_wo=wo, bgad=bgad)
    remove(tmp_path, cells[2])
    rows = differences(table(tmp_path, cells)[1])
    assert rows["bgad - bgad-wo", "seen, known types", "10", "carpet"][:2] == ["2 of 3", "+4.00 [+4.00, +4.00]"]


def test_only_seeds_that_both_have_are_paired(tmp_path):
    levels = {"nf": {"carpet": (80.0, 81.0)}, "bgad-wo": {"carpet": (81.0, 82.0, 99.0)}}
    (row,) = differences(table(tmp_path, measured(tmp_path, levels))[1]).values()
    assert row[:2] == ["2", "+1.00 [+1.00, +1.00]"]


def test_a_single_seed_has_a_difference_and_no_judgement(tmp_path):
    levels = {method: {category: images[:1] for category, images in of.items()} for method, of in LEVELS.items()}
    lines, records = table(tmp_path, measured(tmp_path, levels))
    rows = differences(records)
    assert rows["bgad-wo - nf", "seen", "0", "mean over 2 categories"] == [
        "1",
        "+2.00 [+2.00, +2.00]",
        *["+0.00 [+0.00, +0.00]"] * 2,
    ]
    section = under(lines, HEADING)[""]
    assert "(bgad-wo - nf)**: no mean difference has an interval over seeds and test images." in section
    assert {r["verdict_difference"] for r in records if r["section"] == "claim"} == {""}


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([-1.0, -1.2, -1.1], HURTS),
        ([0.0, 0.01], NO_DIFFERENCE),
        ([0.0, 0.0], ""),  # ties
        ([1.0, 1.0, 1.0, 1.0, 1.0], ""),
        ([1.0, 1.7871, 2.5742], NO_DIFFERENCE),  # from -0.168
        ([1.0, 1.672, 2.344], NO_DIFFERENCE),  # from 0.0027, which is printed as 0.00
        ([1.0, 1.66, 2.32], HELPS),  # from 0.0205
        ([3.0], ""),
        ([], ""),
    ],
)
def test_a_judgement_is_of_the_interval_as_it_is_printed(values, word):
    assert judgement(Spread.of(values, Chance(1e-4))) == word


def test_an_interval_over_seeds_or_images_alone_has_no_judgement():
    assert judgement(Spread.of([1.0, 1.1, 1.2])) == judgement(Spread.of([1.0], Chance(0.1))) == ""
    assert judgement(Spread.of([1.0, 1.1, 1.2], Chance(0.1))) == HELPS
    assert judgement(Spread.of([1.0, 1.1, 1.2], Chance(1.0))) == NO_DIFFERENCE  # the images could do it


def test_minus_zero_is_not_printed():
    spread = Spread.of([-0.001, -0.001], Chance(1e-4))
    assert (spread.text(number), spread.text(signed)) == ("0.00 [0.00, 0.00]", "+0.00 [+0.00, +0.00]")


@pytest.mark.parametrize("method", ["bgad", "nf"])
def test_without_two_methods_there_is_one_plain_sentence(tmp_path, method):
    cells = measured(tmp_path, {method: LEVELS[method]})
    lines, records = claim_section(collect(cells, tmp_path))
    (sentence,) = lines[2:]
    assert "Nothing to compare" in sentence and not records


def test_nothing_measured_is_said(tmp_path):
    lines, records = claim_section(collect([cell(k=0), cell(k=10)], tmp_path))
    (sentence,) = lines[2:]
    assert "No pair of cells is measured" in sentence and not records
