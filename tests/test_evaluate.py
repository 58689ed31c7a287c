"""Evaluation by hand on a few small maps: the figures, each defect type's, and whose likelihood is whose."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bgad.data.layouts import ImageRecord, Index
from bgad.errors import TrainingError
from bgad.evaluation import evaluate
from bgad.features.cache import FeatureCache

TYPES = ("good", "good", "cut", "hole", "cut")
PATHS = tuple(f"test/{kind}/{number}.png" for number, kind in enumerate(TYPES))


def make_test(masks=True):
    """Five images of 2 x 2; the defects: the first pixel of image 2, the last of 3, the upper row of 4."""
    pixels = np.zeros((5, 2, 2), dtype=bool)
    pixels[2, 0, 0] = pixels[3, 1, 1] = True
    pixels[4, 0] = True
    return evaluate.TestSet(PATHS, TYPES, torch.arange(5), pixels if masks else None)


# 1 - exp(l) of each pixel is its score, as the most normal one has l = 0. Image scores: 0.2, 0.5, 0.8, 0.4, 0.9.
SCORES = np.array(
    [
        [[0.0, 0.1], [0.2, 0.1]],
        [[0.1, 0.5], [0.2, 0.1]],
        [[0.8, 0.1], [0.3, 0.1]],
        [[0.1, 0.1], [0.2, 0.4]],
        [[0.9, 0.3], [0.1, 0.2]],
    ]
)


def likelihoods():
    return [torch.from_numpy(np.log1p(-SCORES)).float()]


def test_maps_scores_and_figures_by_hand():
    result = evaluate.evaluate(likelihoods(), make_test(), 2)
    np.testing.assert_allclose(result.maps, SCORES, atol=1e-6)
    np.testing.assert_allclose(result.scores, [0.2, 0.5, 0.8, 0.4, 0.9], atol=1e-6)
    # Of the 6 pairs of an anomalous (0.8, 0.4, 0.9) and a normal image (0.2, 0.5), only (0.4, 0.5) is the wrong way.
    assert result.metrics["image_auroc"] == pytest.approx(100 * 5 / 6, abs=1e-4)
    # Pixels: 16 normal ones, 0.0, 9 x 0.1, 4 x 0.2, 0.3, 0.5. Anomalous 0.8 and 0.9 beat all 16, 0.4 beats 15, 0.3 beats
    # 14 and ties with one: 16 + 16 + 15 + 14.5 = 61.5 of 64.
    assert np.sort(SCORES[~make_test().masks]).round(1).tolist() == [0.0, *9 * [0.1], *4 * [0.2], 0.3, 0.5]
    assert result.metrics["pixel_auroc"] == pytest.approx(100 * 61.5 / 64, abs=1e-4)
    # Three regions up to FPR 0.3 = 4.8 of 16 pixels. Image 2's is found before any false positive: area 4.8. Image 3's
    # (0.4) after one: 3.8. Image 4's: half at once, half in the ramp from 1 to 2: (4.8 + 3.3) / 2 = 4.05. The mean over
    # 4.8 is 12.65 / 3 / 4.8 = 0.878472.
    assert result.metrics["aupro"] == pytest.approx(87.8472, abs=1e-4)
    # The released PRO has no point between two and six false positives, so that two (of the 4.8) are its limit. Up to the
    # first, images 2 and half of 4 are found (1.5 of 3 regions); then image 3 (2.5), and with the second all.
    assert result.metrics["released_pro"] == pytest.approx(100 * (1.5 / 3 + (2.5 / 3 + 1) / 2) / 2, abs=1e-4)


def test_without_masks_the_pixel_figures_are_null():
    test = make_test(masks=False)
    result = evaluate.evaluate(likelihoods(), test, 2)
    assert result.metrics["image_auroc"] == pytest.approx(100 * 5 / 6, abs=1e-4)
    assert result.metrics["pixel_auroc"] is None
    assert result.metrics["aupro"] is None
    assert result.metrics["released_pro"] is None
    assert [kind["pixel_auroc"] for kind in evaluate.by_type(test, result, set()).values()] == [None, None]


def test_by_type_by_hand():
    test = make_test()
    result = evaluate.by_type(test, evaluate.evaluate(likelihoods(), test, 2), known={"hole"})
    assert list(result) == ["cut", "hole"]
    # cut: images 0.8 and 0.9 beat both normal ones. Pixels of images 0, 1, 2, 4: 13 normal, of which only 0.3 and 0.5
    # reach the anomalous 0.3: 13 + 13 + 11.5 = 37.5 of 39.
    assert result["cut"]["image_auroc"] == 100
    assert result["cut"]["pixel_auroc"] == pytest.approx(100 * 37.5 / 39, abs=1e-4)
    assert (result["cut"]["n"], result["cut"]["known"]) == (2, False)
    # hole: image 0.4 beats 0.2 and loses to 0.5. Its pixel beats 10 of the 11 normal ones of images 0, 1 and 3.
    assert result["hole"]["image_auroc"] == 50
    assert result["hole"]["pixel_auroc"] == pytest.approx(100 * 10 / 11, abs=1e-4)
    assert (result["hole"]["n"], result["hole"]["known"]) == (1, True)


def test_figures_of_one_class_are_null():
    test = evaluate.TestSet(PATHS[:2], TYPES[:2], torch.arange(2), np.zeros((2, 2, 2), dtype=bool))
    result = evaluate.evaluate([likelihoods()[0][:2]], test, 2)
    assert result.metrics == {"image_auroc": None, "pixel_auroc": None, "aupro": None, "released_pro": None}
    assert evaluate.by_type(test, result, set()) == {}


@pytest.mark.parametrize(("fraction", "percent"), [(0.5, 50), (1.0, 100), (2 / 3, 66.6667), (math.nan, None)])
def test_percent(fraction, percent):
    assert evaluate.percent(fraction) == percent


def make_cache(images=11, masks=True):
    rng = torch.Generator().manual_seed(0)
    levels = [torch.randn(images, side**2, channels, generator=rng) for side, channels in ((8, 4), (4, 5), (2, 6))]
    pixels = torch.rand(images, 32, 32, generator=rng) < 0.5
    paths = [f"{number}.png" for number in range(images)]
    return FeatureCache(32, paths, levels, pixels if masks else None, 0.0)


def test_a_test_set_takes_its_rows_from_the_cache():
    cache = make_cache()
    paths = ("7.png", "2.png", "9.png")
    images = [
        ImageRecord(f"{number}.png", "test", "good" if number < 5 else "hole", f"{number}_mask.png", "") for number in range(11)
    ]
    index = Index("own", "part", False, True, tuple(images))
    test = evaluate.TestSet.of(cache, paths, index)
    assert test.rows.tolist() == [7, 2, 9]
    assert test.types == ("hole", "good", "hole")
    assert test.is_anomalous.tolist() == [True, False, True]
    assert np.array_equal(test.masks, cache.masks.numpy()[[7, 2, 9]])
    assert test.has_mask is None
    assert evaluate.TestSet.of(make_cache(masks=False), paths, index).masks is None
    images[9] = replace(images[9], mask=None)
    assert evaluate.TestSet.of(cache, paths, replace(index, images=tuple(images))).has_mask.tolist() == [True, True, False]


def test_an_image_without_a_usable_mask_counts_as_an_image_only():
    has_mask = np.array([True, True, True, False, True])
    of_all, test = make_test(), replace(make_test(), has_mask=has_mask)
    result = evaluate.evaluate(likelihoods(), test, 2)
    assert result.metrics["image_auroc"] == evaluate.evaluate(likelihoods(), of_all, 2).metrics["image_auroc"]
    others = evaluate.TestSet(PATHS[:3] + PATHS[4:], TYPES[:3] + TYPES[4:], torch.arange(4), of_all.masks[has_mask])
    expected = evaluate.evaluate([likelihoods()[0][torch.from_numpy(has_mask)]], others, 2).metrics
    for metric in ("pixel_auroc", "aupro", "released_pro"):
        assert result.metrics[metric] == expected[metric]
    found = evaluate.by_type(test, result, set())
    assert (found["hole"]["image_auroc"], found["hole"]["pixel_auroc"], found["hole"]["n"]) == (50, None, 1)
    assert found["cut"] == evaluate.by_type(of_all, result, set())["cut"]


@pytest.mark.parametrize(("value", "image"), [(-math.inf, 0), (math.inf, 1), (math.nan, 4)])
def test_a_likelihood_that_is_not_finite_is_an_error_that_names_the_level(value, image):
    levels = likelihoods() * 3
    evaluate.check_finite(levels, "here", "mend it")
    levels[2] = levels[2].clone()
    levels[2][image, 0] = value
    with pytest.raises(TrainingError, match=r"^here .*level 3 .*1 of 5 images; mend it"):
        evaluate.check_finite(levels, "here", "mend it")


@pytest.mark.parametrize(("masks", "metric"), [(True, "pixel_auroc"), (False, "image_auroc")])
def test_a_score_that_is_not_finite_is_an_error_that_names_the_metric(masks, metric):
    maps = torch.from_numpy(SCORES).float()
    maps[0, 0, 0] = -math.inf if masks else math.nan  # which no image's maximum shows, if it is -inf
    with pytest.raises(TrainingError, match=f"^{metric}: .*1 non-finite"):
        evaluate.evaluate_maps(maps, make_test(masks))
