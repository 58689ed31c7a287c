"""The table of a suite, against figures worked out by hand from a few synthetic cells."""

import csv
import json
from dataclasses import asdict, replace

import pytest
from synthetic import MVTEC, cell, figures, suite, type_figures, write, write_cell

from bgad.errors import BgadError
from bgad.report.collect import collect
from bgad.report.table import write_table


def table(root, cells):
    """The Markdown as lines, and the CSV as dictionaries."""
    folder = root / "reports" / "a"
    write_table("a", suite(), cells, folder / "table.md", folder / "table.csv", folder, root)
    with (folder / "table.csv").open(newline="") as file:
        return (folder / "table.md").read_text().splitlines(), list(csv.DictReader(file))


def under(lines, heading):
    """The cells of the table rows under a heading, by their first cell; with the rest of the lines under ""."""
    start = next(i for i, line in enumerate(lines) if line.startswith("#") and heading in line)
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("#")), len(lines))
    rows = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines[start:end] if line.startswith("|")]
    return {row[0].strip(): [c.strip() for c in row[1:]] for row in rows} | {"": "\n".join(lines[start:end])}


def three_seeds(root, category="carpet", **of):
    """image AUROC: last 90, 92, 97, so 93 with sd sqrt(13) = 3.61; best 94, 95, 99, so 96 with sd sqrt(7) = 2.65."""
    cells = [cell(category, seed=seed, **of) for seed in range(3)]
    for one, image in zip(cells, [(90.0, 94.0), (92.0, 95.0), (97.0, 99.0)], strict=True):
        write_cell(root, one, figures(image))
    return cells


def test_mean_and_standard_deviation_over_seeds_last_and_best_apart(tmp_path):
    lines, records = table(tmp_path, three_seeds(tmp_path, k=1))
    rows = under(lines, "mvtec, seen, k = 1, bgad")
    assert rows["category"][1:3] == ["image AUROC, last", "image AUROC, best"]
    assert rows["carpet"][:5] == ["3", "93.00 ± 3.61", "96.00 ± 2.65", "98.00 ± 0.00", "98.00 ± 0.00"]
    (record,) = (r for r in records if (r["section"], r["row"], r["metric"]) == ("setting", "carpet", "image_auroc"))
    assert [record[c] for c in ("n", "last", "last_sd", "best", "best_sd")] == ["3", "93.00", "3.61", "96.00", "2.65"]


def test_a_single_seed_has_no_standard_deviation(tmp_path):
    write_cell(tmp_path, cell(), figures((90.0, 94.0)))
    lines, _ = table(tmp_path, [cell()])
    assert under(lines, "mvtec, seen, k = 10, bgad")["carpet"][1:3] == ["90.00", "94.00"]


def test_the_mean_over_categories_is_taken_for_each_seed_first(tmp_path):
    """Seeds 90, 92 of carpet and 80, 90 of tile: means 85 and 91, so 88 with sd sqrt(18) = 4.24."""
    values = {("carpet", 0): 90.0, ("carpet", 1): 92.0, ("tile", 0): 80.0, ("tile", 1): 90.0}
    cells = [cell(category, seed=seed) for category, seed in values]
    for one in cells:
        write_cell(tmp_path, one, figures((values[one.category, one.seed],) * 2))
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
    assert rows["mean over 2 categories †"] == ["0 of 3", *["—"] * 6]
    assert rows["mean over the 1 complete of 2 categories †"][:2] == ["3", "93.00 ± 3.61 †"]
    assert "1 of 6 cells is missing" in rows[""] and "carpet, seed 1: not run" in rows[""]
    (mean,) = (r for r in records if r["row"] == "mean over 2 categories" and r["metric"] == "image_auroc")
    assert (mean["last"], mean["best"], mean["note"]) == ("", "", "carpet, seed 1: not run")


def test_a_hard_category_is_the_mean_over_its_types_and_lacks_a_seed_with_its_type(tmp_path):
    """cut 80, 84 and hole 90, 98: seeds 85 and 91, so 88; without hole's seed 1 only 85 is left."""
    values = {("cut", 0): 80.0, ("cut", 1): 84.0, ("hole", 0): 90.0, ("hole", 1): 98.0}
    cells = [cell(split=f"hard-{kind}", seed=seed, k=1) for kind, seed in values]
    for one in cells:
        write_cell(tmp_path, one, figures((values[one.split.removeprefix("hard-"), one.seed],) * 2))
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
    write_cell(tmp_path, done, figures((90.0, 94.0)))
    lines, _ = table(tmp_path, [failed, stopped, absent, done])
    assert "**1 of 4 cells measured; 1 failed, 1 interrupted, 1 not run.**" in lines
    rows = under(lines, "Missing and failed")
    path = "results/cpu/mvtec/carpet/seen/k10/bgad/seed{}/metrics.json"
    command = f"`snakemake --cores all {path.format(0)}`"
    assert rows[f"`{path.format(0)}`"] == ["failed: training diverged \\| use a lower rate.", command]
    assert [rows[f"`{path.format(seed)}`"][0] for seed in (1, 2)] == ["interrupted", "not run"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{ damaged", "not valid JSON"),
        ("[]", "has no key cell"),
        (json.dumps({"cell": asdict(cell()), **figures((90.0, 94.0))}), "by_type"),
    ],
)
def test_a_damaged_metrics_file_is_a_failed_cell_and_named(tmp_path, text, named):
    write(tmp_path, cell(), "metrics.json", text)
    (status,) = collect([cell()], tmp_path).status.values()
    assert status.startswith("failed: results/cpu/mvtec/carpet/seen/k10/bgad/seed0/metrics.json") and named in status


def test_figures_that_cannot_be_are_refused(tmp_path):
    write_cell(tmp_path, cell(), figures((94.0, 90.0)))
    (status,) = collect([cell()], tmp_path).status.values()
    assert "image_auroc: best is 90.0 and last is 94.0" in status
    write_cell(tmp_path, cell(), figures((194.0, 194.0)))
    (status,) = collect([cell()], tmp_path).status.values()
    assert "image_auroc.last" in status


def test_metrics_of_another_cell_are_refused(tmp_path):
    write_cell(tmp_path, cell(), figures((90.0, 94.0)), cell=asdict(replace(cell(), seed=7)))
    with pytest.raises(BgadError, match=r"seed0/metrics\.json: belongs to the cell"):
        table(tmp_path, [cell()])


def headline(root, categories=MVTEC):
    """15 categories, 2 seeds: image last 98, 99 (98.5), best 99, 99.4 (99.2); pixel last 97, 98 (97.5), best 99.5."""
    cells = [cell(category, seed=seed) for category in categories for seed in (0, 1)]
    for one in cells:
        image, pixel = [((98.0, 99.0), (97.0, 99.5)), ((99.0, 99.4), (98.0, 99.5))][one.seed]
        write_cell(root, one, figures(image, pixel))
    return cells


def test_the_headline_is_compared_over_15_categories(tmp_path):
    lines, records = table(tmp_path, headline(tmp_path))
    compared = [r for r in records if r["section"] == "published"]
    of = [(r["metric"], r["published"], r["last"], r["last_minus_published"], r["best_minus_published"]) for r in compared]
    assert of == [
        ("image_auroc", "99.30", "98.50", "-0.80", "-0.10"),
        ("image_auroc", "99.40", "98.50", "-0.90", "-0.20"),
        ("pixel_auroc", "99.20", "97.50", "-1.70", "+0.30"),
        ("pixel_auroc", "99.30", "97.50", "-1.80", "+0.20"),
    ]
    row = next(line for line in lines if "| mean over 15 categories | image AUROC |" in line)
    assert [c.strip() for c in row.split("|")][5:11] == ["99.30", "98.50 ± 0.71", "-0.80", "99.20 ± 0.28", "-0.10", "2"]
    assert "BGAD (CVPR 2023) (arXiv 2207.01463" in row
    of_setting = under(lines, "### mvtec, seen, k = 10, bgad")["mean over 15 categories"]
    assert of_setting[3] == "99.30 (-0.80, -0.10); 99.40 (-0.90, -0.20)"


@pytest.mark.parametrize("how", ["never asked for", "a seed is missing"])
def test_a_mean_over_fewer_categories_is_not_compared(tmp_path, how):
    cells = headline(tmp_path, MVTEC[:-1] if how == "never asked for" else MVTEC)
    if how == "a seed is missing":
        (tmp_path / cells[0].folder / "metrics.json").unlink()
    lines, records = table(tmp_path, cells)
    compared = [r for r in records if "published" in r["section"]]
    assert len(compared) == 8
    for record in compared:
        assert record["note"] == "not measured (14 of 15 categories)"
        assert not (record["last"] or record["best"] or record["last_minus_published"] or record["best_minus_published"])
    assert "not measured (14 of 15 categories)" in under(lines, "Against the published")[""]


def test_other_methods_stand_beside_the_same_category_and_setting(tmp_path):
    lines, _ = table(tmp_path, three_seeds(tmp_path, k=1))
    rows = under(lines, "Other methods in the same settings")
    assert rows["category"][:3] == ["ours, last", "ours, best", "devnet [1]"]
    assert rows["carpet"][:3] == ["93.00 ± 3.61", "96.00 ± 2.65", "74.6 ± 7.6"]
    assert rows["mean over 15 categories"][:2] == ["not measured (1 of 15 categories)", "—"]
    assert "- [1] arXiv 2203.14506 table 1" in rows[""]
    assert "there is none to compare" in under(lines, "Against the published")[""]


def test_undefined_figures_are_dashes_and_keep_their_category_out_of_that_mean_alone(tmp_path):
    cells = [cell("a", dataset="mine"), cell("b", dataset="mine")]
    write_cell(tmp_path, cells[0], figures((80.0, 80.0), (70.0, 71.0)))
    write_cell(tmp_path, cells[1], figures((90.0, 90.0), None, None))
    rows = under(table(tmp_path, cells)[0], "mine, seen")
    assert rows["b"] == ["1", "90.00", "90.00", "—", "—", "—", "—"]
    assert rows["mean over 2 categories"][1:5] == ["85.00", "85.00", "—", "—"]
    assert rows["mean over the 1 complete of 2 categories"][1:5] == ["—", "—", "70.00", "71.00"]
    assert "pixel AUROC is not defined for b." in rows[""]


def test_known_against_unseen_types_with_the_same_types_at_k0(tmp_path):
    """Known: carpet (90 + 96) / 2 = 93, tile 99, mean 96; at k0 (80 + 90) / 2 = 85 and 95, mean 90. Unseen: 70 from 60."""
    at_k = {"carpet": {"cut": 90.0, "hole": 96.0, "color": 70.0}, "tile": {"oil": 99.0}}
    at_k0 = {"carpet": {"cut": 80.0, "hole": 90.0, "color": 60.0}, "tile": {"oil": 95.0}}
    cells = [cell(category, k=k) for k in (0, 1) for category in at_k]
    for one in cells:
        values = (at_k if one.k else at_k0)[one.category]
        types = {t: type_figures(v, known=bool(one.k) and t != "color") for t, v in values.items()}
        write_cell(tmp_path, one, figures((90.0, 90.0)), by_type=types)
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


def test_the_whole_test_set_is_of_k0_and_beside_unsupervised_methods(tmp_path):
    write_cell(tmp_path, cell(k=0), figures((80.0, 82.0)), full_test=figures((85.0, 87.0)))
    lines, _ = table(tmp_path, [cell(k=0)])
    assert under(lines, "mvtec, seen, k = 0")["carpet"][1:3] == ["80.00", "82.00"]
    assert under(lines, "mvtec, whole test set, k = 0")["carpet"][1:3] == ["85.00", "87.00"]
    beside = [[c.strip() for c in line.split("|")[1:6]] for line in lines if line.startswith("| carpet ")]
    assert ["carpet", "85.00", "87.00", "77.4", "97.0"] in beside  # image AUROC of kdad and draem
    assert "- [1] arXiv 2203.14506 table 1" in under(lines, "Unsupervised methods")[""]


def test_csv_and_markdown_say_the_same(tmp_path):
    lines, records = table(tmp_path, headline(tmp_path) + three_seeds(tmp_path, k=0))
    text = "\n".join(lines)
    for record in records:
        for column in ("last", "best", "last_minus_published", "best_minus_published", "last_minus_k0"):
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


def test_mixed_sources_are_said(tmp_path):
    write_cell(tmp_path, cell(seed=0), figures((90.0, 94.0)))
    write_cell(tmp_path, cell(seed=1), figures((90.0, 94.0)), recipe_sha256="d" * 64)
    lines, _ = table(tmp_path, [cell(seed=0), cell(seed=1)])
    assert "- **Mixed:** the cells of recipe `cpu` were trained with 2 different contents of it." in lines


def test_nothing_measured_is_said(tmp_path):
    lines, _ = table(tmp_path, [cell(seed=0), cell(seed=1)])
    assert "**0 of 2 cells measured; 0 failed, 2 not run.**" in lines
    assert "None of its 2 cells is measured (see Missing and failed cells)." in lines
