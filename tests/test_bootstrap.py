"""The bootstrap over test images: against DeLong's interval, against repeated experiments, and in the rows of a table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from delong import difference_of_aurocs
from scipy.stats import norm
from synthetic import cell, metrics, type_metrics, write_cell, write_images

from bgad.evaluation.metrics import auroc
from bgad.report.averages import category_rows, mean_rows, paired, settings
from bgad.report.bootstrap import Moved, chance_of, draws, image_aurocs, with_images
from bgad.report.collect import collect
from bgad.report.statistics import (
    IMAGES,
    SEEDS,
    SEEDS_AND_IMAGES,
    Chance,
    Spread,
    judgement,
    least_half_width,
)

LEAST = 100 * least_half_width(20, 60)


def drawn(images, of="a"):
    return np.stack([draws("data", of, str(i)) for i in range(images)], axis=1)


def deviations(labels, scores, weights):
    return image_aurocs(labels, scores, weights) - auroc(labels, scores)


def test_the_auroc_of_drawn_images_is_that_of_copies():
    rng = np.random.default_rng(0)
    labels, scores = np.arange(30) < 12, np.round(rng.normal(size=30), 1)
    weights = drawn(30)[:20]
    copies = [np.repeat(np.arange(30), of) for of in weights]
    assert image_aurocs(labels, scores, weights) == pytest.approx([auroc(labels[of], scores[of]) for of in copies])


@pytest.mark.parametrize(("normal", "anomalous", "shift"), [(20, 60, 1.5), (60, 90, 0.8), (60, 90, 2.5)])
def test_its_interval_is_about_delong_s(normal, anomalous, shift):
    """Of one cell, and of a difference of two with the same images: the paired one is far narrower than two apart would be."""
    rng = np.random.default_rng(normal + anomalous)
    labels = np.arange(normal + anomalous) >= normal
    common = rng.normal(size=len(labels)) + shift * labels
    one, other = (common + rng.normal(size=len(labels)) / 3 for _ in range(2))
    weights = drawn(len(labels))
    a, b = (Moved(100 * deviations(labels, scores, weights), LEAST) for scores in (one, other))
    # Against scores without information, whose AUROC is 0.5 whatever the images, DeLong's interval is that of one AUROC.
    for moved, scores in ((a, np.zeros(len(labels))), (a - b, other)):
        mean, low, high = difference_of_aurocs(labels, one, scores)
        ends = np.quantile(moved.deviations, [0.025, 0.975])
        assert ends[1] - ends[0] == pytest.approx(100 * (high - low), rel=0.15)
        assert ends[0] == pytest.approx(100 * (low - mean), abs=25 * (high - low))


def experiment(rng, normal, seeds, shift, of_seed, noise, weights):
    """The AUROC of each seed, in percent, and the chance of the images. Every seed sees the same images with noise of its own
    and shifts the anomalous ones by its own amount."""
    labels = np.arange(weights.shape[1]) >= normal
    image = rng.normal(size=len(labels)) + shift * labels
    values, moved = [], []
    for _ in range(seeds):
        scores = image + noise * rng.normal(size=len(labels)) + of_seed * rng.normal() * labels
        values.append(100 * auroc(labels, scores))
        least = 100 * least_half_width(normal, len(labels) - normal)
        moved.append(Moved(100 * deviations(labels, scores, weights), least))
    return values, chance_of(pd.DataFrame({"category": "a", "moved": moved}))


def coverage(seeds, of_seed, shift, normal, runs=400, noise=0.3):
    """How often the interval has the mean over all seeds and all images, and how often one over seeds alone does."""
    shifts = norm.ppf((np.arange(2000) + 0.5) / 2000, shift, of_seed)
    truth = 100 * norm.cdf(shifts / np.sqrt(2 * (1 + noise**2))).mean()
    rng, weights, both, alone = np.random.default_rng(1), drawn(normal + 60)[:400], 0, 0
    for _ in range(runs):
        values, chance = experiment(rng, normal, seeds, shift, of_seed, noise, weights)
        spread, of_seeds = Spread.of(values, chance, is_level=True), Spread.of(values)
        assert 0 <= spread.low < spread.high <= 100
        both += spread.low <= truth <= spread.high
        alone += of_seeds.low <= truth <= of_seeds.high
    return both / runs, alone / runs


@pytest.mark.parametrize(("of_seed", "shift", "normal"), [(0.1, 1.5, 40), (0.5, 1.5, 60), (0.1, 2.5, 20)])
def test_with_five_seeds_an_interval_covers_about_as_often_as_it_says(of_seed, shift, normal):
    """Also near 100 with 20 normal images (here the true mean is 95.4), where quantiles of the replicates cover 86 %."""
    both, alone = coverage(5, of_seed, shift, normal)
    assert 0.92 <= both <= 0.98, both
    if of_seed == 0.1:  # the images are most of the chance, which seeds alone do not show
        assert alone < 0.75


@pytest.mark.parametrize(("seeds", "of_seed"), [(2, 0.2), (2, 0.5), (3, 0.5)])
def test_with_few_seeds_it_errs_on_the_safe_side(seeds, of_seed):
    both, _ = coverage(seeds, of_seed, 1.5, 40, runs=200)
    assert both >= 0.93, both


def test_with_two_seeds_a_bootstrap_over_seeds_would_cover_little_and_student_t_covers():
    """Why seeds are not drawn with replacement: of two seeds' values such a draw has half of the chance, and never more than
    their range."""
    rng, runs, by_draws, by_t = np.random.default_rng(2), 2000, 0, 0
    for _ in range(runs):
        values = rng.normal(size=2)
        by_draws += values.min() <= 0 <= values.max()  # 95 % of the draws' means span the range
        by_t += Spread.of(values).low <= 0 <= Spread.of(values).high
    assert by_draws / runs < 0.6 and 0.93 <= by_t / runs <= 0.97


def test_one_seed_has_an_interval_over_images_only():
    spread = Spread.of([5.0], Chance(1.0))
    assert (spread.low, spread.high) == pytest.approx((5 - 1.959964, 5 + 1.959964)) and spread.covers == IMAGES
    assert judgement(spread) == ""


def test_near_100_a_level_reaches_further_down_than_up():
    spread = Spread.of([98.0], Chance(1.0), is_level=True)
    odds = 98 / 2 * np.exp(np.array([-1, 1]) * 1.959964 * 0.01 / (0.98 * 0.02))
    assert (spread.low, spread.high) == pytest.approx(tuple(100 * odds / (1 + odds)))
    middle = Spread.of([50.0], Chance(1.0), is_level=True)
    assert (middle.low, middle.high) == pytest.approx((50 - 1.96, 50 + 1.96), abs=0.01)


def test_the_parts_add_in_quadrature():
    spread = Spread.of([1.0, 2.0, 3.0], Chance(0.5, 0.7))
    half = np.sqrt((4.302653 / np.sqrt(3)) ** 2 + (1.959964 * 0.5) ** 2 + 0.7**2)
    assert (spread.low, spread.high) == pytest.approx((2 - half, 2 + half)) and spread.covers == SEEDS_AND_IMAGES


def test_perfect_separation_has_newcombe_s_interval():
    spread = Spread.of([100.0, 100.0], Chance(0.0, LEAST), is_level=True)
    assert (spread.low, spread.high) == pytest.approx((100 - LEAST, 100)) and spread.covers == SEEDS_AND_IMAGES
    assert 5 < LEAST < 8 and least_half_width(200, 600) < least_half_width(20, 60) / 5


def test_the_floor_is_the_root_of_newcombe_s_equation():
    m, n = 20, 63
    a = 1 - least_half_width(m, n)
    more = (m + n) / 2 - 1
    variance = a * (1 - a) * (1 + more * (1 - a) / (2 - a) + more * a / (1 + a)) / (m * n)
    assert (1 - a) ** 2 == pytest.approx(1.959964**2 * variance, rel=1e-5)


def test_no_interval_is_above_100_or_of_zero_width():
    near = Spread.of([99.0, 100.0], Chance(0.5), is_level=True)
    assert near.high == 100 and near.low >= 0
    tied = Spread.of([99.0, 99.0])
    assert tied.text(str) == "99.0 [nan, nan]" and tied.covers == ""


def test_floors_of_categories_add_in_quadrature_and_those_of_seeds_do_not():
    still, moving = Moved(np.zeros(50), 6.0), Moved(np.linspace(-1, 1, 50), 6.0)
    part = pd.DataFrame({"category": ["a", "a", "b", "b"], "moved": [still, still, still, still]})
    assert chance_of(part).floor == pytest.approx(6 / np.sqrt(2))
    part["moved"] = [still, moving, moving, moving]  # half of category a
    assert chance_of(part).floor == pytest.approx(1.5)
    assert chance_of(part).sd == pytest.approx(0.75 * np.linspace(-1, 1, 50).std())
    part["moved"] = [still, None, moving, moving]
    assert chance_of(part) is None


def measured(root, seeds=3, categories=("carpet", "tile"), images=True):
    """bgad at 95, 95.5, ... and bgad-wo 3 points below, each with the scores and curves of its images."""
    rng = np.random.default_rng(3)
    cells = []
    for category in categories:
        hard = rng.normal(size=80)  # of each image, for all seeds and methods
        for seed in range(seeds):
            for k, level in ((10, 95.0), (0, 92.0)):
                one = cell(category, k=k, seed=seed)
                value = level + 0.5 * seed + 0.1 * k * (seed % 2)
                types = {"cut": type_metrics(value, n=60, known=k > 0)}
                write_cell(root, one, metrics((value, value + 1), (value, value), (value, value)), by_type=types)
                if images:
                    write_images(root, one, hard + 0.1 * rng.normal(size=80))
                cells.append(one)
    return cells


def rows_of(root, cells):
    collected = with_images(collect(cells, root))
    found = {setting.method: part for setting, part in settings(collected.metrics)}
    ((setting, _), *_) = settings(collected.metrics)
    return setting, found, collected


def test_a_row_s_interval_covers_seeds_and_images_and_a_paired_one_is_narrower(tmp_path):
    setting, found, _ = rows_of(tmp_path, measured(tmp_path))
    (level, *_) = mean_rows(setting, found["bgad"], ["last", "best"])
    for metric in ("image_auroc", "pixel_auroc", "aupro"):
        assert level.of(metric, "last").covers == SEEDS_AND_IMAGES
        assert level.of(metric, "best").covers == SEEDS
    assert level.of("released_pro", "last").covers == ""  # 93 in every seed
    pairs = paired(found["bgad"], found["bgad-wo"], ["kind", "category", "split", "seed"])
    (difference, *_) = mean_rows(setting, pairs, ["last"])
    of = difference.of("image_auroc", "last")
    assert of.covers == SEEDS_AND_IMAGES and of.mean == pytest.approx(3 + 1 / 3)
    images_of_level = chance_of(found["bgad"].query("metric == 'image_auroc'")).sd
    images_of_difference = chance_of(pairs.query("metric == 'image_auroc'")).sd
    assert images_of_difference < images_of_level / 3


def test_more_seeds_on_the_same_images_leave_the_images_chance(tmp_path):
    _, found, _ = rows_of(tmp_path, measured(tmp_path, seeds=6, categories=["carpet"]))
    image = found["bgad"].query("metric == 'image_auroc'")
    one, six = (chance_of(part).sd for part in (image[image["seed"] == 0], image))
    assert six > 0.9 * one


def test_the_chance_of_categories_is_independent(tmp_path):
    _, found, _ = rows_of(tmp_path, measured(tmp_path, seeds=2))
    image = found["bgad"].query("metric == 'image_auroc'")
    of_each = [chance_of(of).sd for _, of in image.groupby("category")]
    assert chance_of(image).sd == pytest.approx(np.hypot(*of_each) / 2, rel=0.1)


def test_one_seed_says_that_it_covers_images_only(tmp_path):
    setting, found, _ = rows_of(tmp_path, measured(tmp_path, seeds=1))
    for row in category_rows(setting, found["bgad"], ["last"]):
        assert row.of("image_auroc", "last").covers == IMAGES


def test_an_older_cell_has_no_images_and_a_damaged_file_neither(tmp_path):
    cells = measured(tmp_path)
    (tmp_path / cells[0].folder / "curves.npz").unlink()
    (tmp_path / cells[-2].folder / "scores.csv").write_text("damaged")
    setting, found, _ = rows_of(tmp_path, cells)
    of = {row.label: row for row in [*category_rows(setting, found["bgad"], ["last"])]}
    assert of["carpet"].of("image_auroc", "last").covers == SEEDS_AND_IMAGES
    assert of["carpet"].of("pixel_auroc", "last").covers == of["tile"].of("image_auroc", "last").covers == SEEDS
    assert judgement(of["tile"].of("image_auroc", "last")) == ""


def test_by_type_too(tmp_path):
    _, _, collected = rows_of(tmp_path, measured(tmp_path))
    assert all(isinstance(value, Moved) for value in collected.by_type["moved_image_auroc"])
    whole = collected.metrics.query("metric == 'pixel_auroc'")["moved"].iloc[0].deviations
    # The only type is all of the test set.
    assert collected.by_type["moved_pixel_auroc"].iloc[0].deviations == pytest.approx(whole)


def test_the_same_cells_have_the_same_intervals(tmp_path):
    cells = measured(tmp_path)
    one, other = (rows_of(tmp_path, order)[1]["bgad"] for order in (cells, cells[::-1]))
    key = ["category", "seed", "metric"]
    for a, b in zip(one.sort_values(key)["moved"], other.sort_values(key)["moved"], strict=True):
        assert (a is None) == (b is None) and (a is None or np.array_equal(a.deviations, b.deviations))


def test_collected_without_a_measured_cell(tmp_path):
    collected = with_images(collect([cell()], tmp_path))
    assert collected.metrics["moved"].isna().all() and replace(collected).by_type.empty
