"""The table of a suite, against numbers worked out by hand from a few synthetic cells."""

import json
import random
from dataclasses import asdict, replace

import pytest
from conftest import ROOT
from synthetic import METRICS, MVTEC, cell, headline, metrics, suite, table, three_seeds, type_metrics, under, write, write_cell

from bgad.errors import BgadError
from bgad.report.collect import collect
from bgad.report.tables.format import literal
from bgad.report.tables.suite import write_table


def rich(root):
    """Two recipes, three categories, seen and hard splits, four methods, two seeds; a missing, a failed and a stale cell, a
    category without masks. Every number is drawn from its cell's name."""
    seen = [
        cell(category, "seen", k, method, seed, recipe, dataset)
        for recipe, dataset, category in (("paper", "mvtec", "carpet"), ("paper", "mvtec", "tile"), ("cpu", "mvtec", "carpet"))
        for k, method in ((0, "bgad-wo"), (0, "nf"), (0, "patchcore"), (10, "bgad"))
        for seed in range(2)
    ]
    hard = [
        cell("carpet", f"hard-{kind}", k, seed=s, recipe="paper") for kind in ("cut", "hole") for k in (0, 1) for s in (0, 1)
    ]
    plain = [cell("own", k=0, seed=seed, dataset="mine") for seed in range(2)]
    for one in [*seen[1:], *hard, *plain]:
        rng = random.Random(str(one))
        masks = one.dataset == "mvtec"

        def value(low, rng=rng):
            last = round(low + 4 * rng.random(), 3)
            return last, round(last + 2 * rng.random(), 3)

        def values(rng=rng, masks=masks, value=value):
            return metrics(value(92.0), *(value(low) if masks else None for low in (93.0, 85.0, 80.0)))

        if one == hard[0]:
            write(root, one, "train.log", "error: the features are not finite.\n")
            continue
        types = ["cut", "hole", "thread"] if masks else ["dent"]
        by_type = {
            kind: type_metrics(value(90.0)[0], value(91.0)[0] if masks else None, 5 + place, one.k > 0 and place == one.seed)
            for place, kind in enumerate(types)
            if one.split != f"hard-{kind}"
        }
        history = [{"epoch": epoch, **dict.fromkeys(METRICS, 90.0)} for epoch in range(3)]
        more = {"notes": ["2 images are the same"]} if one.seed else {}
        if one.recipe == "paper" and one.k:
            more["released_test_command"] = {metric: value(94.0)[0] for metric in METRICS}
        if one == hard[-1]:
            more["source_sha256"] = "0" * 64
        write_cell(root, one, values(), values() if one.k == 0 else None, by_type, history, **more)
    return seen + hard + plain


def test_the_csv_is_the_golden_one(tmp_path):
    """After an intended change, copy the file that the failure names over golden/table.csv."""
    table(tmp_path, rich(tmp_path))
    made = tmp_path / "reports/a/table.csv"
    assert made.read_text() == (ROOT / "tests/golden/table.csv").read_text(), made


def test_mean_and_standard_deviation_over_seeds_last_and_best_apart(tmp_path):
    lines, records = table(tmp_path, three_seeds(tmp_path, k=1))
    rows = under(lines, "mvtec, seen, k = 1, bgad")
    assert rows["category"][1:3] == ["image AUROC, last", "image AUROC, best"]
    assert rows["carpet"][:5] == ["3", "93.00 ± 3.61", "96.00 ± 2.65", "98.00 ± 0.00", "98.00 ± 0.00"]
    (record,) = (r for r in records if (r["section"], r["row"], r["metric"]) == ("setting", "carpet", "image_auroc"))
    assert [record[c] for c in ("n", "last", "last_sd", "best", "best_sd")] == ["3", "93.00", "3.61", "96.00", "2.65"]


def test_a_single_seed_has_no_standard_deviation(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 94.0)))
    lines, _ = table(tmp_path, [cell()])
    assert under(lines, "mvtec, seen, k = 10, bgad")["carpet"][1:3] == ["90.00", "94.00"]


def test_the_mean_over_categories_is_taken_for_each_seed_first(tmp_path):
    """Seeds 90, 92 of carpet and 80, 90 of tile: means 85 and 91, so 88 with sd sqrt(18) = 4.24."""
    values = {("carpet", 0): 90.0, ("carpet", 1): 92.0, ("tile", 0): 80.0, ("tile", 1): 90.0}
    cells = [cell(category, seed=seed) for category, seed in values]
    for one in cells:
        write_cell(tmp_path, one, metrics((values[one.category, one.seed],) * 2))
    lines, _ = table(tmp_path, cells)
    assert under(lines, "k = 10, bgad")["mean over 2 categories"][:2] == ["2", "88.00 ± 4.24"]


def test_a_missing_cell_is_never_averaged_away(tmp_path):
    cells = three_seeds(tmp_path, "carpet", k=1) + three_seeds(tmp_path, "tile", k=1)
    (tmp_path / cells[1].folder / "metrics.json").unlink()  # carpet, seed 1
    lines, records = table(tmp_path, cells)
    rows = under(lines, "mvtec, seen, k = 1, bgad")
    # What is left of carpet is 90 and 97: 93.5, sd sqrt(24.5) = 4.95.
    assert rows["carpet"][:2] == ["2 of 3", "93.50 ± 4.95 †"]
    assert rows["tile"][:2] == ["3", "93.00 ± 3.61"]
    assert rows["mean over 2 categories †"] == ["0 of 3", *["—"] * 8]
    assert rows["mean over the 1 complete of 2 categories: tile †"][:2] == ["3", "93.00 ± 3.61 †"]
    assert "1 of 6 cells is missing" in rows[""] and "carpet, seed 1: not run" in rows[""]
    (mean,) = (r for r in records if r["row"] == "mean over 2 categories" and r["metric"] == "image_auroc")
    assert (mean["last"], mean["best"], mean["note"]) == ("", "", "carpet, seed 1: not run")


def test_a_hard_category_is_the_mean_over_its_types_and_lacks_a_seed_with_its_type(tmp_path):
    """cut 80, 84 and hole 90, 98: seeds 85 and 91, so 88; without hole's seed 1 only 85 is left."""
    values = {("cut", 0): 80.0, ("cut", 1): 84.0, ("hole", 0): 90.0, ("hole", 1): 98.0}
    cells = [cell(split=f"hard-{kind}", seed=seed, k=1) for kind, seed in values]
    for one in cells:
        write_cell(tmp_path, one, metrics((values[one.split.removeprefix("hard-"), one.seed],) * 2))
    rows = under(table(tmp_path, cells)[0], "mvtec, hard, k = 1")
    assert rows["carpet"][:2] == ["2", "88.00 ± 4.24"]
    assert rows["carpet / hard-hole"][:2] == ["2", "94.00 ± 5.66"]

    (tmp_path / cells[3].folder / "metrics.json").unlink()
    rows = under(table(tmp_path, cells)[0], "mvtec, hard, k = 1")
    assert rows["carpet"][:2] == ["1 of 2", "85.00 †"]
    assert rows["carpet / hard-cut"][:2] == ["2", "82.00 ± 2.83"]
    assert rows["carpet / hard-hole"][:2] == ["1 of 2", "90.00 †"]


def test_a_failed_cell_shows_its_sentence_and_how_to_run_it(tmp_path):
    failed, stopped, absent, done = (cell(seed=seed) for seed in range(4))
    write(tmp_path, failed, "train.log", "epoch 0\nerror: training diverged | use a lower rate.\n\n")
    write(tmp_path, stopped, "train.log", "error: an old run\nepoch 3\n")
    write_cell(tmp_path, done, metrics((90.0, 94.0)))
    lines, _ = table(tmp_path, [failed, stopped, absent, done])
    assert "**1 of 4 cells measured; 1 failed, 1 interrupted, 1 not run.**" in lines
    rows = under(lines, "Missing, stale and failed")
    path = "results/cpu/mvtec/carpet/seen/k10/bgad/seed{}/metrics.json"
    command = f"`snakemake --cores all {path.format(0)}`"
    assert rows[f"`{path.format(0)}`"] == ["failed: training diverged \\| use a lower rate.", command]
    assert [rows[f"`{path.format(seed)}`"][0] for seed in (1, 2)] == ["interrupted", "not run"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{ damaged", "not valid JSON"),
        ("[]", "has no key cell"),
        (json.dumps({"cell": asdict(cell()), **metrics((90.0, 94.0))}), "by_type"),
    ],
)
def test_a_damaged_metrics_file_is_a_failed_cell_and_named(tmp_path, text, named):
    write(tmp_path, cell(), "metrics.json", text)
    (status,) = collect([cell()], tmp_path).status.values()
    assert status.startswith("failed: results/cpu/mvtec/carpet/seen/k10/bgad/seed0/metrics.json") and named in status


def test_impossible_metrics_are_refused(tmp_path):
    write_cell(tmp_path, cell(), metrics((94.0, 90.0)))
    (status,) = collect([cell()], tmp_path).status.values()
    assert "image_auroc: best is 90.0 and last is 94.0" in status
    write_cell(tmp_path, cell(), metrics((194.0, 194.0)))
    (status,) = collect([cell()], tmp_path).status.values()
    assert "image_auroc.last" in status


def test_metrics_of_another_cell_are_refused(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 94.0)), cell=asdict(replace(cell(), seed=7)))
    with pytest.raises(BgadError, match=r"seed0/metrics\.json: belongs to the cell"):
        table(tmp_path, [cell()])


def test_the_headline_is_compared_over_15_categories(tmp_path):
    lines, records = table(tmp_path, headline(tmp_path))
    compared = [r for r in records if r["section"] == "published"]
    of = [(r["metric"], r["published"], r["last"], r["last_minus_published"], r["best_minus_published"]) for r in compared]
    assert of == [
        ("image_auroc", "99.3", "98.50", "-0.80", "-0.10"),
        ("image_auroc", "99.4", "98.50", "-0.90", "-0.20"),
        ("pixel_auroc", "99.2", "97.50", "-1.70", "+0.30"),
        ("pixel_auroc", "99.3", "97.50", "-1.80", "+0.20"),
    ]
    row = next(line for line in lines if "| mean over 15 categories | image AUROC |" in line)
    shown = [c.strip() for c in row.split("|")]
    assert shown[5:7] == ["99.3", "98.50 ± 0.71 [92.15, 104.85]"]
    assert shown[7:] == ["-0.80", "reproduced", "99.20 ± 0.28 [96.66, 101.74]", "-0.10", "reproduced", "2", shown[13], ""]
    assert shown[13].startswith("BGAD (CVPR 2023) (arXiv 2207.01463")
    of_setting = under(lines, "### mvtec, seen, k = 10, bgad")["mean over 15 categories"]
    assert of_setting[3] == "99.3 (-0.80 reproduced, -0.10 reproduced); 99.4 (-0.90 reproduced, -0.20 reproduced)"


@pytest.mark.parametrize("how", ["never asked for", "a seed is missing"])
def test_a_mean_over_fewer_categories_is_not_compared(tmp_path, how):
    cells = headline(tmp_path, MVTEC[:-1] if how == "never asked for" else MVTEC)
    if how == "a seed is missing":
        (tmp_path / cells[0].folder / "metrics.json").unlink()
    lines, records = table(tmp_path, cells)
    compared = [r for r in records if r["section"] == "published"]
    assert len(compared) == 4
    reason = f"not measured (14 of 15 categories, without {'zipper' if how == 'never asked for' else 'bottle'})"
    empty = [rule + end for rule in ("last", "best") for end in ("", "_sd", "_low", "_high", "_minus_published")]
    for record in compared:
        assert [record["note"], record["verdict_last"], record["verdict_best"]] == [reason, "not measured", "not measured"]
        assert not any(record[column] for column in empty)
    assert reason in under(lines, "Against the published")[""]


def test_other_methods_are_next_to_the_same_category_and_setting(tmp_path):
    lines, _ = table(tmp_path, three_seeds(tmp_path, k=1))
    rows = under(lines, "Other methods in the same settings")
    assert rows["category"][:3] == ["ours, last", "ours, best", "devnet [1]"]
    # Student's t is 4.3027, so the half widths are 4.3027 sqrt(13) / sqrt(3) = 8.96 and 4.3027 sqrt(7) / sqrt(3) = 6.57.
    ours = ["93.00 ± 3.61 [84.04, 101.96]", "96.00 ± 2.65 [89.43, 102.57]"]
    assert rows["carpet"][:3] == [*ours, "74.6 ± 7.6 (+18.40 above)"]
    assert rows["mean over 15 categories"][:3] == ["not measured (1 of 15 categories: carpet)", "—", "79.4 ± 1.4"]
    assert "- [1] arXiv 2203.14506 table 1" in rows[""]
    assert "nothing to compare" in under(lines, "Against the published")[""]


def test_undefined_metrics_are_dashes_and_keep_their_category_out_of_that_mean_only(tmp_path):
    cells = [cell("a", dataset="mine"), cell("b", dataset="mine")]
    write_cell(tmp_path, cells[0], metrics((80.0, 80.0), (70.0, 71.0)))
    write_cell(tmp_path, cells[1], metrics((90.0, 90.0), None, None, None))
    rows = under(table(tmp_path, cells)[0], "mine, seen")
    assert rows["b"] == ["1", "90.00", "90.00", *["—"] * 6]
    assert rows["mean over 2 categories"][1:5] == ["85.00", "85.00", "—", "—"]
    assert rows["mean over the 1 complete of 2 categories: a"][1:5] == ["—", "—", "70.00", "71.00"]
    assert "pixel AUROC is not defined for b." in rows[""]


def test_known_against_unseen_types_with_the_same_types_at_k0(tmp_path):
    """Known: carpet (90 + 96) / 2 = 93, tile 99, mean 96; at k0 (80 + 90) / 2 = 85 and 95, mean 90. Unseen: 70 from 60."""
    at_k = {"carpet": {"cut": 90.0, "hole": 96.0, "color": 70.0}, "tile": {"oil": 99.0}}
    at_k0 = {"carpet": {"cut": 80.0, "hole": 90.0, "color": 60.0}, "tile": {"oil": 95.0}}
    cells = [cell(category, k=k) for k in (0, 1) for category in at_k]
    for one in cells:
        values = (at_k if one.k else at_k0)[one.category]
        types = {t: type_metrics(v, known=bool(one.k) and t != "color") for t, v in values.items()}
        write_cell(tmp_path, one, metrics((90.0, 90.0)), by_type=types)
    lines, records = table(tmp_path, cells)
    rows = [line.split("|") for line in lines if " types " in line and line.startswith("| mvtec, seen, k = 1")]
    assert [[c.strip() for c in row[2:8]] for row in rows] == [
        ["known types", "3", "2 of 2", "90.00", "96.00", "+6.00"],
        ["unseen types", "1", "1 of 2", "60.00", "70.00", "+10.00"],
    ]
    (record,) = (r for r in records if r["row"] == "unseen types" and r["metric"] == "image_auroc")
    assert [record[c] for c in ("types", "last_at_k0", "last", "last_minus_k0")] == ["1", "60.00", "70.00", "+10.00"]

    (tmp_path / cells[0].folder / "metrics.json").unlink()  # carpet at k0: its types have no counterpart now
    _, records = table(tmp_path, cells)
    known, unseen = (r for r in records if r["section"] == "known_unseen" and r["metric"] == "image_auroc")
    assert [known["last"], known["last_at_k0"], unseen["last_at_k0"]] == ["96.00", "", ""]


def test_the_whole_test_set_is_for_k0_and_next_to_unsupervised_methods(tmp_path):
    write_cell(tmp_path, cell(k=0), metrics((80.0, 82.0)), full_test=metrics((85.0, 87.0)))
    lines, _ = table(tmp_path, [cell(k=0)])
    assert under(lines, "mvtec, seen, k = 0")["carpet"][1:3] == ["80.00", "82.00"]
    assert under(lines, "mvtec, whole test set, k = 0")["carpet"][1:3] == ["85.00", "87.00"]
    shown = [[c.strip() for c in line.split("|")[1:6]] for line in lines if line.startswith("| carpet ")]
    assert ["carpet", "85.00", "87.00", "77.4 (+7.60 above)", "97.0 (-12.00 below)"] in shown  # image AUROC of kdad and draem
    assert "- [1] arXiv 2203.14506 table 1" in under(lines, "Unsupervised methods")[""]


def test_csv_and_markdown_say_the_same(tmp_path):
    lines, records = table(tmp_path, headline(tmp_path) + three_seeds(tmp_path, k=0))
    text = "\n".join(lines)
    for record in records:
        for column in ("last", "best", "last_minus_published", "best_minus_published", "last_minus_k0", "verdict_best"):
            assert record[column] in text, (record["row"], column)
    shown = under(lines, "### mvtec, seen, k = 0")["carpet"][1:]
    of = [r for r in records if (r["section"], r["k"], r["row"]) == ("setting", "0", "carpet")]
    assert shown == [f"{r[rule]} ± {r[rule + '_sd']}" for r in of for rule in ("last", "best")]


def test_made_again_it_is_the_same_bytes_and_without_its_place(tmp_path):
    for name in ("a", "b"):
        cells = headline(tmp_path / name)
        table(tmp_path / name, cells)
    files = ("reports/a/table.md", "reports/a/table.csv")
    first, second = ([(tmp_path / name / file).read_bytes() for file in files] for name in ("a", "b"))
    assert first == second
    assert str(tmp_path).encode() not in first[0]


def test_what_a_suite_cannot_have_is_said_with_its_reason(tmp_path):
    cells = three_seeds(tmp_path)
    reasons = ["wood hard-color k10: the type has 8 images", "toothbrush hard-*: its only type leaves none to test on"]
    write_table("a", suite(), cells, tmp_path / "a.md", tmp_path / "a.csv", tmp_path, tmp_path, reasons)
    assert literal("; ".join(reasons)) in (tmp_path / "a.md").read_text()
    write_table("a", suite(), cells, tmp_path / "a.md", tmp_path / "a.csv", tmp_path, tmp_path)
    assert "Not in the suite" not in (tmp_path / "a.md").read_text()


def test_mixed_sources_are_said(tmp_path):
    write_cell(tmp_path, cell(seed=0), metrics((90.0, 94.0)))
    write_cell(tmp_path, cell(seed=1), metrics((90.0, 94.0)), recipe_sha256="d" * 64)
    lines, _ = table(tmp_path, [cell(seed=0), cell(seed=1)])
    (mixed,) = (line for line in lines if "**Mixed:**" in line)
    assert "`cpu`" in mixed and "2 different" in mixed and "weights" not in mixed


def test_mixed_weights_are_said_where_they_are_recorded(tmp_path):
    said = "- **Mixed:** the cells of recipe `cpu` were trained with 2 different backbone weights."
    write_cell(tmp_path, cell(seed=0), metrics((90.0, 94.0)), weights_sha256="1" * 64)
    write_cell(tmp_path, cell(seed=1), metrics((90.0, 94.0)))  # from before weights were recorded
    write_cell(tmp_path, cell(seed=2), metrics((90.0, 94.0)), weights_sha256="2" * 64)
    write_cell(tmp_path, cell(seed=0, recipe="paper"), metrics((90.0, 94.0)), weights_sha256="3" * 64)
    assert said not in table(tmp_path, [cell(seed=0), cell(seed=1), cell(recipe="paper")])[0]
    assert said in table(tmp_path, [cell(seed=seed) for seed in range(3)])[0]


def test_a_hard_mean_over_fewer_types_than_at_another_k_says_so(tmp_path):
    """pill's color is not there at k 10; wood has one type at both."""
    there = {"pill": ("crack", "color"), "wood": ("hole",)}
    every = [cell(category, f"hard-{kind}", k) for category, kinds in there.items() for k in (1, 10) for kind in kinds]
    cells = [one for one in every if (one.split, one.k) != ("hard-color", 10)]
    for one in cells:
        write_cell(tmp_path, one, metrics((90.0, 90.0)))
    lines, records = table(tmp_path, cells)
    glance = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines if line.startswith("| cpu ")]
    assert [row[4:6] for row in glance[:2]] == [
        ["1", "2 categories: pill, wood"],
        ["10", "2 categories: pill, wood; over 2 of 3 types"],
    ]
    assert {"pill", "wood", "mean over 2 categories"} < set(under(lines, "### mvtec, hard, k = 1, bgad"))
    at_10 = set(under(lines, "### mvtec, hard, k = 10, bgad"))
    assert {"pill (over 1 of 2 types)", "pill / hard-crack", "wood", "mean over 2 categories (over 2 of 3 types)"} < at_10
    notes = {(r["k"], r["row"]): r["note"] for r in records if r["section"] == "setting"}
    assert notes["10", "pill"] == "over 1 of 2 types" and notes["10", "mean over 2 categories"] == "over 2 of 3 types"
    assert notes["1", "pill"] == notes["10", "wood"] == notes["10", "pill / hard-crack"] == ""


def test_nothing_measured_is_said(tmp_path):
    lines, _ = table(tmp_path, [cell(seed=0), cell(seed=1)])
    assert "**0 of 2 cells measured; 0 failed, 2 not run.**" in lines
    assert "None of its 2 cells is measured (see Missing, stale and failed cells)." in lines


def test_both_pros_are_there_by_name_and_apart(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 94.0), aupro=(91.1, 92.2), released_pro=(93.3, 94.4)))
    lines, records = table(tmp_path, [cell()])
    rows = under(lines, "### mvtec, seen, k = 10, bgad")
    shown = dict(zip(rows["category"], rows["carpet"], strict=True))
    assert [shown[f"AUPRO, {rule}"] for rule in ("last", "best")] == ["91.10", "92.20"]
    assert [shown[f"PRO (released), {rule}"] for rule in ("last", "best")] == ["93.30", "94.40"]
    of = {r["metric"]: (r["last"], r["best"]) for r in records if (r["section"], r["row"]) == ("setting", "carpet")}
    assert [of["aupro"], of["released_pro"]] == [("91.10", "92.20"), ("93.30", "94.40")]
    text = under(lines, "Every setting")[""]
    assert "**AUPRO**" in text and "**PRO (released)**" in text, "each is explained"


def test_a_cell_from_before_both_pros_is_failed_and_named(tmp_path):
    old = metrics((90.0, 94.0))
    del old["released_pro"]
    write_cell(tmp_path, cell(), old)
    (status,) = collect([cell()], tmp_path).status.values()
    assert status.endswith("metrics.json: released_pro: Field required; delete it and run again.")
