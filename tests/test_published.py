"""The published numbers: what is found for a key, in which order, and what a published mean is over."""

import csv
from pathlib import Path

from synthetic import MVTEC

from bgad.report import published
from bgad.report.published import lookup
from bgad.report.statistics import ROUNDING


def test_the_headline_comes_before_the_official_codes_single_run():
    found = lookup("mvtec", "mean", "bgad", "seen", "", 10, "image_auroc")
    assert [(p.value, p.paper) for p in found] == [(99.3, "BGAD (CVPR 2023)"), (99.4, "BGAD official code")]
    assert [p.value for p in lookup("mvtec", "mean", "bgad", "seen", "", 10, "pixel_auroc")] == [99.2, 99.3]


def test_several_sources_of_one_number_are_all_found():
    found = lookup("mvtec", "mean", "dra", "seen", "", 1, "image_auroc")
    assert [(p.value, p.std, p.paper) for p in found] == [
        (88.3, 0.8, "DRA (CVPR 2022) table 1"),
        (88.9, 1.3, "AHL (CVPR 2024) table 7"),
    ]


def test_a_hard_number_is_found_only_by_its_known_type():
    assert [p.value for p in lookup("mvtec", "carpet", "dra", "hard", "color", 1, "image_auroc")] == [87.9]
    assert [p.value for p in lookup("mvtec", "carpet", "dra", "hard", "mean", 1, "image_auroc")] == [90.1, 90.5]
    assert lookup("mvtec", "carpet", "dra", "hard", "", 1, "image_auroc") == []


def test_an_absent_standard_deviation_is_none():
    (number,) = lookup("mvtec", "carpet", "kdad", "unsupervised", "", 0, "image_auroc")
    assert (number.value, number.std) == (77.4, None)


def test_nothing_is_found_for_another_k_method_or_data_set():
    assert lookup("mvtec", "mean", "bgad", "seen", "", 1, "image_auroc") == []
    assert lookup("mvtec", "mean", "nf", "seen", "", 10, "image_auroc") == []
    assert lookup("mine", "mean", "bgad", "seen", "", 10, "image_auroc") == []


def test_a_published_mean_is_the_mean_of_its_categories():
    """DRA's means, to the decimal they are printed with: no category of the file is missing or doubled."""
    for k, mean in ((1, 88.3), (10, 95.9)):
        values = [lookup("mvtec", c, "dra", "seen", "", k, "image_auroc")[0].value for c in MVTEC]
        assert abs(sum(values) / 15 - mean) < 0.05 + 1e-9


def test_what_means_are_over():
    assert sorted(published.categories_of_mean("mvtec")) == MVTEC
    assert published.categories_of_mean("btad") == ("01", "02", "03")
    assert published.categories_of_mean("mine") == ()
    assert published.types_of_mean("mvtec", "metal_nut") == ("bent", "color", "flip", "scratch")
    assert published.types_of_mean("mine", "metal_nut") == ()


def test_the_tolerance_is_half_the_last_digit_of_every_published_number():
    with Path(published.__file__).with_name("published.csv").open(newline="") as file:
        digits = {len(line["value"].partition(".")[2]) for line in csv.DictReader(file)}
    assert digits == {1}
    assert ROUNDING == 0.5 * 10**-1
