"""The table of a suite, against numbers worked out by hand from a few synthetic cells."""

import json
import random
from dataclasses import asdict, replace

import pytest
from conftest import ROOT
from synthetic import (
    METRICS,
    MVTEC,
    cell,
    headline,
    metrics,
    result_rows,
    suite,
    table,
    three_seeds,
    type_metrics,
    under,
    values,
    write,
    write_cell,
)

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


def test_the_results_are_a_row_for_each_category_and_a_column_for_each_method_and_k(tmp_path):
    """Three seeds of sd sqrt(13): t is 4.3027, so the half width is 4.3027 sqrt(13) / sqrt(3) = 8.96."""
    cells = three_seeds(tmp_path, "carpet", k=1) + three_seeds(tmp_path, "tile", k=1)
    nf, padim = cell("tile", k=0, method="nf"), cell("tile", k=0, method="padim")
    write_cell(tmp_path, nf, metrics((70.0, 75.0), None))
    write_cell(tmp_path, padim, metrics((60.0, 60.0)))
    lines, _ = table(tmp_path, [*cells, nf, padim])
    heads = ["PaDiM, k = 0 (1 seed)", "nf, k = 0 (1 seed)", "bgad, k = 1 (3 seeds)"]
    assert result_rows(lines, "image AUROC") == {
        "image AUROC": heads,
        "carpet": ["", "", "93.00 [84.04, 100.00] (96.00)"],
        "tile": ["60.00", "70.00 (75.00)", "93.00 [84.04, 100.00] (96.00)"],
        "mean over 2 categories": ["", "", "93.00 [84.04, 100.00] (96.00)"],
    }
    assert result_rows(lines, "pixel AUROC")["tile"] == ["98.00", "—", "98.00 (98.00)"]  # equal seeds have no interval
    assert list(result_rows(lines, "AUPRO")) == ["AUPRO", "carpet", "tile", "mean over 2 categories"]


def test_data_sets_recipes_and_kinds_of_split_are_told_apart(tmp_path):
    cells = [cell("carpet"), cell("brick", dataset="mini"), cell("carpet", recipe="paper"), cell("carpet", "hard-cut", 1)]
    for one in cells:
        write_cell(tmp_path, one, metrics((90.0, 94.0)))
    lines, _ = table(tmp_path, cells)
    assert result_rows(lines, "image AUROC, seen splits") == {
        "image AUROC, seen splits": ["bgad, k = 10, cpu (1 seed)", "bgad, k = 10, paper (1 seed)"],
        "mvtec: carpet": ["90.00 (94.00)", "90.00 (94.00)"],
        "mini: brick": ["90.00 (94.00)", ""],
    }
    assert result_rows(lines, "AUPRO, hard splits")["carpet"] == ["94.00 (94.00)"]


@pytest.mark.parametrize("measured", [90, 40])
def test_the_paper_suite_is_a_verdict_and_three_tables_in_under_120_lines(tmp_path, measured):
    cells = [cell(name, k=k, seed=seed, recipe="paper") for k in (10, 0) for name in MVTEC for seed in (0, 42, 100)]
    types = {"cut": type_metrics(90.0), "hole": type_metrics(80.0, known=False)}
    history = [{"epoch": epoch, **dict.fromkeys(METRICS, 90.0)} for epoch in range(3)]
    for one in cells[:measured]:
        write_cell(tmp_path, one, metrics((98.0, 99.0)), by_type=types, history=history)
    lines, records = table(tmp_path, cells)
    assert len(lines) < 120
    assert lines[4].startswith("**Verdict:** ")
    for metric in ("image AUROC", "pixel AUROC", "AUPRO"):
        assert list(result_rows(lines, metric)) == [metric, *MVTEC, "mean over 15 categories"]
    headings = [line.removeprefix("## ") for line in lines if line.startswith("#")]
    assert headings[1:5] == [
        "Against the published numbers",
        "Results",
        "What helps, on known and on unseen types",
        "What choosing the epoch adds",
    ]
    assert sum(r["section"] == "missing" for r in records) == 90 - measured
    assert any(line.startswith(f"And {90 - measured - 5} more") for line in lines) is (measured < 90)


def test_mean_and_standard_deviation_over_seeds_last_and_best_apart(tmp_path):
    _, records = table(tmp_path, three_seeds(tmp_path, k=1))
    assert values(records, "carpet") == ["3", "93.00", "3.61", "96.00", "2.65"]
    assert values(records, "carpet", "pixel_auroc") == ["3", "98.00", "0.00", "98.00", "0.00"]


def test_a_single_seed_has_no_standard_deviation(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 94.0)))
    assert values(table(tmp_path, [cell()])[1], "carpet") == ["1", "90.00", "", "94.00", ""]


def test_the_mean_over_categories_is_taken_for_each_seed_first(tmp_path):
    """Seeds 90, 92 of carpet and 80, 90 of tile: means 85 and 91, so 88 with sd sqrt(18) = 4.24."""
    images = {("carpet", 0): 90.0, ("carpet", 1): 92.0, ("tile", 0): 80.0, ("tile", 1): 90.0}
    cells = [cell(category, seed=seed) for category, seed in images]
    for one in cells:
        write_cell(tmp_path, one, metrics((images[one.category, one.seed],) * 2))
    assert values(table(tmp_path, cells)[1], "mean over 2 categories")[:3] == ["2", "88.00", "4.24"]


def test_a_missing_cell_is_never_averaged_away(tmp_path):
    """What is left of carpet is 90 and 97: 93.5, sd sqrt(24.5) = 4.95, half 12.7062 x 3.5 = 44.47."""
    cells = three_seeds(tmp_path, "carpet", k=1) + three_seeds(tmp_path, "tile", k=1)
    (tmp_path / cells[1].folder / "metrics.json").unlink()  # carpet, seed 1
    lines, records = table(tmp_path, cells)
    rows = result_rows(lines, "image AUROC")
    assert rows["carpet"] == ["93.50 [49.03, 100.00] (96.50) †"]
    assert rows["tile"] == ["93.00 [84.04, 100.00] (96.00)"]
    assert rows["mean over 2 categories"] == ["†"]
    assert any(line.startswith("† ") for line in lines)
    assert values(records, "carpet")[:3] == ["2", "93.50", "4.95"]
    assert values(records, "mean over the 1 complete of 2 categories: tile")[:3] == ["3", "93.00", "3.61"]
    (mean,) = (r for r in records if r["row"] == "mean over 2 categories" and r["metric"] == "image_auroc")
    assert (mean["last"], mean["best"], mean["note"]) == ("", "", "carpet, seed 1: not run")


def test_a_hard_category_is_the_mean_over_its_types_and_lacks_a_seed_with_its_type(tmp_path):
    """cut 80, 84 and hole 90, 98: seeds 85 and 91, so 88; without hole's seed 1 only 85 is left."""
    images = {("cut", 0): 80.0, ("cut", 1): 84.0, ("hole", 0): 90.0, ("hole", 1): 98.0}
    cells = [cell(split=f"hard-{kind}", seed=seed, k=1) for kind, seed in images]
    for one in cells:
        write_cell(tmp_path, one, metrics((images[one.split.removeprefix("hard-"), one.seed],) * 2))
    lines, records = table(tmp_path, cells)
    assert [values(records, row)[:3] for row in ("carpet", "carpet / hard-hole")] == [
        ["2", "88.00", "4.24"],
        ["2", "94.00", "5.66"],
    ]
    assert list(result_rows(lines, "image AUROC")) == ["image AUROC", "carpet"]

    (tmp_path / cells[3].folder / "metrics.json").unlink()
    lines, records = table(tmp_path, cells)
    assert result_rows(lines, "image AUROC")["carpet"] == ["85.00 (85.00) †"]
    found = [values(records, row)[:3] for row in ("carpet", "carpet / hard-cut", "carpet / hard-hole")]
    assert found == [["1", "85.00", ""], ["2", "82.00", "2.83"], ["1", "90.00", ""]]


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
    assert shown[5:7] == ["99.3", "98.50 [92.15, 100.00]"]
    assert shown[7:] == ["-0.80", "consistent", "99.20 [96.66, 100.00]", "-0.10", "consistent", "2", shown[13], ""]
    assert shown[13].startswith("BGAD (CVPR 2023) (arXiv 2207.01463")


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
        single_run = record["published"] in ("99.4", "99.3") and "single run" in record["source"]
        word = "" if single_run else "not measured"
        assert [record["note"], record["verdict_last"], record["verdict_best"]] == [reason, word, word]
        assert not any(record[column] for column in empty)
    assert reason in under(lines, "Against the published")[""]


def test_other_methods_are_next_to_the_same_category_and_setting_in_the_csv(tmp_path):
    lines, records = table(tmp_path, three_seeds(tmp_path, k=1))
    of = {(r["row"], r["published_method"], r["published"]): r for r in records if r["section"] == "others"}
    devnet = of["carpet", "devnet", "74.6"]
    columns = ("published", "published_sd", "last_minus_published", "verdict_last", "last_low", "last_high")
    assert [devnet[c] for c in columns] == ["74.6", "7.6", "+18.40", "above", "84.04", "100.00"]
    assert devnet["source"].startswith("DRA (CVPR 2022) table 1 (arXiv 2203.14506 table 1")
    mean = of["mean over 15 categories", "devnet", "79.4"]
    assert [mean[c] for c in ("published", "last", "note")] == ["79.4", "", "not measured (1 of 15 categories: carpet)"]
    assert not any("Against the published" in line or "devnet" in line for line in lines)  # BGAD has none to compare with


def test_undefined_metrics_are_dashes_and_keep_their_category_out_of_that_mean_only(tmp_path):
    cells = [cell("a", dataset="mine"), cell("b", dataset="mine")]
    write_cell(tmp_path, cells[0], metrics((80.0, 80.0), (70.0, 71.0)))
    write_cell(tmp_path, cells[1], metrics((90.0, 90.0), None, None, None))
    lines, records = table(tmp_path, cells)
    assert result_rows(lines, "pixel AUROC")["b"] == result_rows(lines, "AUPRO")["b"] == ["—"]
    assert result_rows(lines, "image AUROC")["mean over 2 categories"] == ["85.00 (85.00)"]
    assert result_rows(lines, "pixel AUROC")["mean over 2 categories"] == ["—"]
    complete = "mean over the 1 complete of 2 categories: a"
    assert values(records, complete, "pixel_auroc") == ["1", "70.00", "", "71.00", ""]
    assert values(records, complete)[:2] == ["1", ""]


def test_known_against_unseen_types_with_the_same_types_at_k0(tmp_path):
    """Known: carpet (90 + 96) / 2 = 93, tile 99, mean 96; at k0 (80 + 90) / 2 = 85 and 95, mean 90. Unseen: 70 from 60."""
    at_k = {"carpet": {"cut": 90.0, "hole": 96.0, "color": 70.0}, "tile": {"oil": 99.0}}
    at_k0 = {"carpet": {"cut": 80.0, "hole": 90.0, "color": 60.0}, "tile": {"oil": 95.0}}
    cells = [cell(category, k=k) for k in (0, 1) for category in at_k]
    for one in cells:
        values = (at_k if one.k else at_k0)[one.category]
        types = {t: type_metrics(v, known=bool(one.k) and t != "color") for t, v in values.items()}
        write_cell(tmp_path, one, metrics((90.0, 90.0)), by_type=types)
    _, records = table(tmp_path, cells)
    columns = ("row", "types", "n", "asked", "last_at_k0", "last", "last_minus_k0")
    of = [[r[c] for c in columns] for r in records if r["section"] == "known_unseen" and r["metric"] == "image_auroc"]
    assert of == [
        ["known types", "3", "2", "2", "90.00", "96.00", "+6.00"],
        ["unseen types", "1", "1", "2", "60.00", "70.00", "+10.00"],
    ]

    (tmp_path / cells[0].folder / "metrics.json").unlink()  # carpet at k0: its types have no counterpart now
    _, records = table(tmp_path, cells)
    known, unseen = (r for r in records if r["section"] == "known_unseen" and r["metric"] == "image_auroc")
    assert [known["last"], known["last_at_k0"], unseen["last_at_k0"]] == ["96.00", "", ""]


def test_the_whole_test_set_is_for_k0_and_next_to_unsupervised_methods(tmp_path):
    cells = [cell(k=0, seed=seed) for seed in (0, 1)]
    for one in cells:
        write_cell(tmp_path, one, metrics((80.0, 82.0)), full_test=metrics((85.0, 87.0)))
    _, records = table(tmp_path, cells)
    assert values(records, "carpet")[1::2] == ["80.00", "82.00"]
    assert values(records, "carpet", section="full_test")[1::2] == ["85.00", "87.00"]
    of = {
        r["published_method"]: (r["published"], r["last_minus_published"], r["verdict_last"])
        for r in records
        if (r["section"], r["row"], r["metric"]) == ("others, whole test set", "carpet", "image_auroc")
    }
    assert (of["kdad"], of["draem"]) == (("77.4", "+7.60", "above"), ("97.0", "-12.00", "below"))


def test_csv_and_markdown_say_the_same(tmp_path):
    lines, records = table(tmp_path, headline(tmp_path) + three_seeds(tmp_path, k=0))
    text = "\n".join(lines)
    for record in (r for r in records if r["section"] in ("published", "setting") and r["metric"] in METRICS[:3]):
        for column in ("last", "best", "last_low", "best_minus_published", "verdict_best"):
            assert record[column] in text, (record["row"], column)


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
    said = "**Mixed:** the cells of recipe `cpu` were trained with 2 different backbone weights."
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
    rows = result_rows(lines, "image AUROC")
    assert rows["pill"] == ["90.00 (90.00)", "90.00 (90.00) (over 1 of 2 types)"]
    assert rows["wood"] == ["90.00 (90.00)"] * 2
    assert rows["mean over 2 categories"][1] == "90.00 (90.00) (over 2 of 3 types)"
    notes = {(r["k"], r["row"]): r["note"] for r in records if r["section"] == "setting"}
    assert notes["10", "pill"] == "over 1 of 2 types" and notes["10", "mean over 2 categories"] == "over 2 of 3 types"
    assert notes["1", "pill"] == notes["10", "wood"] == notes["10", "pill / hard-crack"] == ""


def test_nothing_measured_is_said(tmp_path):
    lines, _ = table(tmp_path, [cell(seed=0), cell(seed=1)])
    assert "**0 of 2 cells measured; 0 failed, 2 not run.**" in lines
    assert result_rows(lines, "image AUROC")["carpet"] == ["†"]


def test_both_pros_are_in_the_csv_and_aupro_alone_in_the_markdown(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 94.0), aupro=(91.1, 92.2), released_pro=(93.3, 94.4)))
    lines, records = table(tmp_path, [cell()])
    assert result_rows(lines, "AUPRO")["carpet"] == ["91.10 (92.20)"]
    assert values(records, "carpet", "aupro")[1::2] == ["91.10", "92.20"]
    assert values(records, "carpet", "released_pro")[1::2] == ["93.30", "94.40"]


def test_a_cell_from_before_both_pros_is_failed_and_named(tmp_path):
    old = metrics((90.0, 94.0))
    del old["released_pro"]
    write_cell(tmp_path, cell(), old)
    (status,) = collect([cell()], tmp_path).status.values()
    assert status.endswith("metrics.json: released_pro: Field required; delete it and run again.")
