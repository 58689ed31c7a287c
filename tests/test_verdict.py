"""Verdicts on published numbers: the rule against worked intervals, and what a suite's table makes of it."""

import csv
import math
from collections import Counter

import numpy as np
import pytest
from synthetic import MVTEC, cell, headline, metrics, suite, table, three_seeds, under, write_cell, write_images

from bgad.report.averages import rows, settings
from bgad.report.collect import METRICS, collect
from bgad.report.published import Published
from bgad.report.statistics import Spread, number, verdict
from bgad.report.tables.published import compared
from bgad.report.tables.suite import write_table

MEAN_ROW = "mean over 15 categories"

# Quantiles 0.975 of Student's t from a printed table, by the number of seeds.
QUANTILES = {2: 12.7062, 3: 4.3027, 5: 2.7764}


@pytest.mark.parametrize(
    ("values", "sd"),
    [([99.0, 99.4], math.sqrt(0.08)), ([98.9, 99.0, 99.1], 0.1), ([90.0, 92.0, 94.0, 96.0, 98.0], math.sqrt(10))],
)
def test_the_interval_is_student_t_times_the_standard_error(values, sd):
    n, mean = len(values), sum(values) / len(values)
    half = QUANTILES[n] * sd / math.sqrt(n)
    assert Spread.of(values).interval == pytest.approx((mean - half, min(mean + half, 100)), abs=5e-4)


def test_the_interval_is_cut_at_100():
    # 12.7062 * 0.5, since sd / sqrt(2) of two values is half their distance
    assert Spread.of([99.0, 100.0], is_level=True).interval == pytest.approx((99.5 - 6.3531, 100), abs=5e-4)


def test_one_seed_has_no_interval():
    assert all(math.isnan(end) for end in Spread.of([99.0]).interval)


@pytest.mark.parametrize(
    ("ours", "published", "expected"),
    [
        # 99.2 with sd 0.02: 4.3027 * 0.02 / sqrt(3) = 0.0497, with the rounding sqrt(0.05^2 + 0.05^2) = 0.0707
        ([99.18, 99.2, 99.22], 99.2, "reproduced"),
        ([99.18, 99.2, 99.22], 99.4, "reproduced"),  # from -0.271
        ([99.18, 99.2, 99.22], 99.5, "consistent"),  # from -0.371 to -0.229
        ([99.18, 99.2, 99.22], 98.9, "consistent"),
        ([99.18, 99.2, 99.22], 99.6, "below"),  # to -0.329
        ([99.18, 99.2, 99.22], 98.8, "above"),
        # 99.2 with sd 0.2: half 0.497, with the rounding 0.499: too wide for the margin
        ([99.0, 99.2, 99.4], 99.2, "consistent"),
        ([99.0, 99.2, 99.4], 99.9, "consistent"),
        ([99.0, 99.2, 99.4], 98.3, "above"),
        # wide, and contains it: not reproduced
        ([95.0, 97.0, 99.0], 97.0, "consistent"),
        ([96.0, 98.0, 100.0], 99.3, "consistent"),
        # cut at 100: 99.97 with half 0.143, so [99.82, 100]
        ([99.9, 100.0, 100.0], 99.3, "above"),
        ([99.9, 100.0, 100.0], 99.9, "reproduced"),
        # no deviation over seeds: as wide as the published digit's rounding
        ([99.3, 99.3], 99.3, "reproduced"),
        ([99.3, 99.3], 99.6, "consistent"),
        ([99.3, 99.3], 99.7, "below"),
        # one seed, which has no interval: within the margin, its end included on both sides, or nothing
        ([99.3], 99.3, "consistent"),
        ([99.6], 99.3, "consistent"),
        ([99.0], 99.3, "consistent"),
        ([99.61], 99.3, "not measured"),
        ([90.0], 99.3, "not measured"),
        ([], 99.3, "not measured"),
        ([math.nan, math.nan], 99.3, "not measured"),
    ],
)
def test_each_verdict(ours, published, expected):
    assert verdict(ours, published, 0.3) == expected


def test_a_published_spread_counts():
    """77.8 with half 0.497 is above 74.6, but not above 74.6 ± 7.6."""
    assert verdict([77.6, 77.8, 78.0], 74.6, 0.3) == "above"
    assert verdict([77.6, 77.8, 78.0], 74.6, 0.3, published_sd=7.6) == "consistent"
    assert verdict([97.6, 97.8, 98.0], 74.6, 0.3, published_sd=7.6) == "above"


@pytest.mark.parametrize("margin", [0.1, 0.3, 1.0])
def test_no_verdict_contradicts_the_printed_numbers(margin):
    """Reproduced and consistent, and only they, have an interval that is, as printed, at least partly within the margin."""
    words = set()
    for i in range(1, 400):
        ours = Spread.of([98.8 - 0.0005 * i, 98.8, 98.8 + 0.0055 * i], is_level=True)
        low, high = (float(text) for text in ours.text(number).split("[")[1].rstrip("]").split(", "))
        word = verdict(ours, 99.4, margin)
        words.add(word)
        if word == "reproduced":
            assert 99.4 - margin <= low <= high <= 99.4 + margin
        if word == "above":
            assert low > 99.4 + margin
        if word == "below":
            assert high < 99.4 - margin
        if low <= 99.4 <= high:
            assert word in ("reproduced", "consistent")
    assert "consistent" in words and len(words) > 1


def shares(distance, seeds, sd, margin=0.3, runs=4000):
    """How often each word is said if the true mean is ``distance`` from a published 90.0."""
    rng = np.random.default_rng(0)
    words = Counter(verdict(rng.normal(90 + distance, sd, seeds), 90.0, margin) for _ in range(runs))
    return {word: count / runs for word, count in words.items()}


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("sd", [0.05, 0.2, 1.0])
def test_how_often_a_word_is_wrong(seeds, sd):
    """The true mean is the published number: above and below are wrong. It is one or two margins away: reproduced is."""
    same = shares(0, seeds, sd)
    assert same.get("above", 0) + same.get("below", 0) <= 0.05, same
    for margins in (1, 2):
        off = shares(0.3 * margins, seeds, sd)
        assert off.get("reproduced", 0) <= 0.04, off
        assert off.get("below", 0) <= 0.03, off
    assert shares(0.3, seeds, sd).get("above", 0) <= 0.035  # wrong too, since that is the edge of the margin


def test_how_often_a_word_is_said_where_it_is_right():
    assert shares(0, 5, 0.05)["reproduced"] > 0.99 and shares(0, 5, 0.1)["reproduced"] > 0.9
    assert shares(0, 3, 1.0).get("reproduced", 0) < 0.05 and shares(0, 3, 1.0)["consistent"] > 0.9  # too wide to tell
    assert shares(1.0, 5, 0.2)["above"] > 0.95 and shares(-1.0, 5, 0.2)["below"] > 0.95
    one = shares(0, 1, 1.0)
    assert set(one) == {"consistent", "not measured"}


def full_suite(root, seeds, recipe="paper"):
    """The 15 categories, each with ``seeds``: (image, pixel) pairs of (last, best) for each seed."""
    cells = [cell(category, seed=seed, recipe=recipe) for category in MVTEC for seed in range(len(seeds))]
    for one in cells:
        write_cell(root, one, metrics(*seeds[one.seed]))
    return cells


def own(records):
    """(metric, published, verdict on last, verdict on best) of BGAD's own numbers in the CSV."""
    of = [r for r in records if r["section"] == "published"]
    return [(r["metric"].split("_")[0], r["published"], r["verdict_last"], r["verdict_best"]) for r in of]


def test_best_is_judged_and_last_is_next_to_it(tmp_path):
    """Image: last 98.0, 98.1, 98.2, so [97.85, 98.35]; best 99.1, 99.2, 99.3, so [98.95, 99.45], from -0.35. Pixel: last 99.24,
    99.25, 99.26, so [99.225, 99.275]; best 99.6 three times. The author's single run, 99.4 and 99.3, has no verdict."""
    seeds = [((98.0, 99.1), (99.24, 99.6)), ((98.1, 99.2), (99.25, 99.6)), ((98.2, 99.3), (99.26, 99.6))]
    lines, records = table(tmp_path, full_suite(tmp_path, seeds))
    assert own(records) == [
        ("image", "99.3", "below", "consistent"),
        ("image", "99.4", "", ""),
        ("pixel", "99.2", "reproduced", "above"),
        ("pixel", "99.3", "", ""),
    ]
    shown = [[c.strip() for c in line.split("|")] for line in lines if line.startswith("| paper ") and "| mvtec, seen" in line]
    assert [row[5] for row in shown] == ["99.3", "99.4", "99.2", "99.3"]
    (first, *_) = (r for r in records if r["section"] == "published")
    assert [first[c] for c in ("best_low", "best_high", "last_low", "last_high")] == ["98.95", "99.45", "97.85", "98.35"]
    assert first["best_covers"] == first["last_covers"] == "seeds"
    (line,) = (line for line in lines if line.startswith("**Verdict:**"))
    assert "2 published numbers of BGAD: 0 reproduced, 1 consistent, 1 above, 0 below, 0 not measured" in line


def test_the_verdict_is_over_seeds_whatever_the_images_could_do(tmp_path):
    """Twenty normal images leave image AUROC some chance, which was the same for theirs."""
    cells = full_suite(tmp_path, [((image, image), (99.2, 99.2)) for image in (99.29, 99.3, 99.31)])
    for one in cells:
        write_images(tmp_path, one, np.random.default_rng(one.seed).normal(size=80))
    _, records = table(tmp_path, cells)
    found = {
        r["section"]: r for r in records if (r["row"], r["metric"]) == (MEAN_ROW, "image_auroc") and r["published"] != "99.4"
    }
    published, ours = found["published"], found["setting"]
    assert (published["verdict_last"], published["last_low"], published["last_high"]) == ("reproduced", "99.28", "99.32")
    assert ours["last_covers"] == "seeds and test images" and float(ours["last_high"]) - float(ours["last_low"]) > 0.5


def test_one_seed_is_consistent_or_not_measured(tmp_path):
    lines, records = table(tmp_path, full_suite(tmp_path, [((99.0, 99.34), (98.8, 99.1))]))
    assert own(records) == [
        ("image", "99.3", "consistent", "consistent"),
        ("image", "99.4", "", ""),
        ("pixel", "99.2", "not measured", "consistent"),
        ("pixel", "99.3", "", ""),
    ]
    assert {r["best_low"] + r["best_high"] for r in records if r["section"] == "published"} == {""}
    assert "within 0.3 percentage points" in under(lines, "Against the published")[""]


def test_the_margin_is_the_configuration_s(tmp_path):
    folder = tmp_path / "reports"
    cells = full_suite(tmp_path, [((99.0, 99.34), (98.8, 99.1))])
    write_table("a", suite(), cells, folder / "a.md", folder / "a.csv", folder, tmp_path, margin=0.5)
    assert "within 0.5 percentage points" in (folder / "a.md").read_text()
    with (folder / "a.csv").open(newline="") as file:
        assert own(list(csv.DictReader(file)))[2] == ("pixel", "99.2", "consistent", "consistent")


@pytest.mark.parametrize(
    ("there", "named"),
    [
        (["carpet", "tile"], "2 of 15 categories: carpet, tile"),
        ([c for c in MVTEC if c not in ("grid", "zipper")], "13 of 15 categories, without grid, zipper"),
    ],
)
def test_a_mean_over_fewer_is_not_measured_and_says_over_which(tmp_path, there, named):
    lines, records = table(tmp_path, headline(tmp_path, there))
    assert {of[2:] for of in own(records)} == {("not measured", "not measured"), ("", "")}
    assert {r["note"] for r in records if r["section"] == "published"} == {f"not measured ({named})"}
    assert f"not measured ({named})" in under(lines, "Against the published")[""]
    assert any(
        "0 reproduced, 0 consistent, 0 above, 0 below, 2 not measured" in line
        for line in lines
        if line.startswith("**Verdict:")
    )


def test_what_is_complete_of_a_broken_suite_is_named(tmp_path):
    cells = headline(tmp_path)
    (tmp_path / cells[0].folder / "metrics.json").unlink()
    _, records = table(tmp_path, cells)
    assert "mean over the 14 complete of 15 categories, without bottle" in {r["row"] for r in records}


def test_only_the_published_recipe_can_reproduce(tmp_path):
    seeds = [((99.0, 99.3), (99.0, 99.7)), ((99.0, 99.3), (99.0, 99.7))]
    cells = full_suite(tmp_path, seeds) + full_suite(tmp_path, seeds, "cpu")
    lines, records = table(tmp_path, cells)
    words = {
        recipe: [r["verdict_best"] for r in records if (r["section"], r["recipe"]) == ("published", recipe)]
        for recipe in ("paper", "cpu")
    }
    assert words == {"paper": ["reproduced", "", "above", ""], "cpu": ["level", "", "above", ""]}
    first, second = (line for line in lines if line.startswith(("**Verdict,", "**No verdict")))
    assert "`paper`" in first and "2 published numbers of BGAD: 1 reproduced, 0 consistent, 1 above, 0 below" in first
    assert "`cpu`" in second


def test_without_the_published_recipe_there_is_no_verdict(tmp_path):
    lines, _ = table(tmp_path, full_suite(tmp_path, [((99.0, 99.3), (99.0, 99.3))], "cpu"))
    head = "\n".join(lines[: lines.index("## Results")])
    assert "**No verdict for `cpu`:**" in head and "**Verdict:**" not in head and "1 reproduced" not in head


def test_a_suite_without_numbers_of_bgad_has_no_verdict(tmp_path):
    lines, _ = table(tmp_path, three_seeds(tmp_path, k=1))
    assert any(line.startswith("**Verdict:**") and "no published number" in line for line in lines)


def test_other_methods_are_level_or_ours_is_above_or_below_by_the_last_epoch(tmp_path):
    """Carpet at k 10, last 94.04 twice, best 99: DRA's 94.0 ± 2.7 and, for its spread, DevNet's 86.7 ± 4.0 are met."""
    cells = [cell(seed=seed) for seed in (0, 1)]
    for one in cells:
        write_cell(tmp_path, one, metrics((94.04, 99.0), (99.2, 99.2)))
    _, records = table(tmp_path, cells)
    of = {
        (r["published_method"], r["published"]): r
        for r in records
        if (r["section"], r["row"], r["metric"]) == ("others", "carpet", "image_auroc")
    }
    verdicts = {key: (r["verdict_last"], r["verdict_best"], r["last_minus_published"]) for key, r in of.items()}
    assert verdicts["dra", "94.0"] == ("level", "", "+0.04")
    assert verdicts["devnet", "86.7"] == ("level", "", "+7.34")
    assert verdicts["prn-reimplemented", "99.9"] == ("below", "", "-5.86")
    means = [r for r in records if (r["section"], r["row"]) == ("others", "mean over 15 categories")]
    assert {(r["verdict_last"], r["note"]) for r in means} == {("not measured", "not measured (1 of 15 categories: carpet)")}


def test_unmeasured_settings_have_their_published_numbers_in_the_csv(tmp_path):
    _, records = table(tmp_path, [cell(k=1)])
    (dra, *_) = (r for r in records if r["row"] == "carpet" and r["published_method"] == "dra")
    assert [dra[c] for c in ("published", "published_sd", "last", "verdict_last")] == ["85.9", "2.3", "", "not measured"]


def test_a_hard_category_lacks_its_types_by_name(tmp_path):
    """carpet's published hard mean is over color, cut, hole, metal_contamination and thread."""
    kinds = ("color", "cut", "hole", "thread")
    cells = [cell(split=f"hard-{kind}", k=1, seed=seed) for kind in kinds for seed in (0, 1)]
    for one in cells:
        write_cell(tmp_path, one, metrics((90.0, 90.0)))
    _, records = table(tmp_path, cells)
    notes = {r["note"] for r in records if r["section"] == "others" and r["row"] == "carpet"}
    assert notes == {"not measured (4 of 5 types, without metal_contamination)"}
    cut = {r["verdict_last"] for r in records if r["section"] == "others" and r["row"] == "carpet / hard-cut"}
    assert cut == {"above", "level"}  # of 90: DRA has 90.2, the others less


def test_a_mean_over_more_than_was_published_is_not_compared(tmp_path):
    _, records = table(tmp_path, headline(tmp_path, [*MVTEC, "mine"]))
    notes = {r["note"] for r in records if r["section"] == "published"}
    assert notes == {"not measured (16 categories, published over 15, without mine)"}


def test_another_metric_is_compared_by_the_same_rule(tmp_path):
    """PRO (released) is named apart from AUPRO, so that a published one would meet its own."""
    for seed, pro in enumerate((92.9, 93.0, 93.1)):
        write_cell(tmp_path, cell(seed=seed, recipe="paper"), metrics((99.0, 99.0), released_pro=(pro, pro)))
    collected = collect([cell(seed=seed, recipe="paper") for seed in range(3)], tmp_path)
    ((setting, part),) = settings(collected.metrics)
    row = rows(setting, part)[0]
    one = Published("mvtec", "carpet", "bgad", "seen", "", 10, METRICS[3], 93.2, None, "A paper", "its table", "")
    record = compared("published", setting, row, METRICS[3], one, 0.3)
    assert [record[c] for c in ("last", "last_low", "last_high", "verdict_best")] == ["93.00", "92.75", "93.25", "consistent"]
    assert record["best_minus_published"] == "-0.20"
