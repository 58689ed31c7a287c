"""An overlay: what its colours mean, where its contour lies, and its size."""

import math
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from folders import save
from PIL import Image

from bgad.methods.predict import Prediction
from bgad.report.plots.overlay import LEAST_WIDTH, POWER, SIDES, STRENGTH, STRIP, draw, write_overlay

GRAY = 100


def prediction(folder: Path, height: int = 600, width: int = 800, threshold: float = 2.0) -> Prediction:
    """A gray image whose map rises from 0 at its left edge to 4, the highest, at its right; the threshold is half-way."""
    path = folder / "image.png"
    save(path, np.full((height, width, 3), GRAY, dtype=np.uint8))
    rising = np.tile(np.linspace(0, 4, 64, dtype=np.float32), (64, 1))
    return Prediction(path, rising, 4.0, threshold, 4.0)


def pixels(found: Prediction) -> np.ndarray:
    """The overlay without its strip, as floats."""
    figure = draw(found)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:-STRIP, :, :3].astype(float)


def test_colours_cover_the_image_the_more_the_higher_the_map(tmp_path):
    shown = pixels(prediction(tmp_path, threshold=5.0))  # above all, so that there is no contour
    for column in (4, 200, 600, 795):
        value = (column + 0.5) / 800  # of the highest
        colour = np.array(matplotlib.colormaps["viridis"](value)[:3]) * 255
        strength = STRENGTH * value**POWER
        expected = strength * colour + (1 - strength) * GRAY
        assert np.abs(shown[300, column] - expected).max() < 8, column
    assert np.abs(shown[300, 1] - GRAY).max() < 8, "where nothing is anomalous, the image is as it was"


def test_the_contour_lies_at_the_threshold(tmp_path):
    found = prediction(tmp_path)
    difference = np.abs(pixels(found) - pixels(replace(found, threshold=5.0))).max(axis=2)
    columns = np.flatnonzero(difference[300] > 40)
    assert columns.size, "a line"
    assert columns.min() >= 396 and columns.max() <= 404, "half-way, and nowhere else"


@pytest.mark.parametrize("threshold", [5.0, math.nan])
def test_no_verdict_of_anomalous_has_no_contour(tmp_path, threshold):
    found = prediction(tmp_path, threshold=threshold)
    assert not draw(found).axes[0].collections
    assert found.verdict == (None if math.isnan(threshold) else "normal")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((600, 800), (600, 800)),
        ((12, 16), (360, 480)),
        ((1000, 3200), (500, 1600)),
        ((900, 100), (900, LEAST_WIDTH)),  # with room next to it
    ],
)
def test_an_image_keeps_its_resolution_within_bounds(tmp_path, size, shown):
    write_overlay(prediction(tmp_path, *size), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as overlay:
        assert (overlay.height - STRIP, overlay.width) == shown
        assert SIDES[0] <= max(shown) <= SIDES[1]


def test_the_strip_says_verdict_score_and_threshold(tmp_path):
    figure = draw(prediction(tmp_path))
    assert [text.get_text() for text in figure.texts] == ["anomalous, score 4.000 (threshold 2.000)"]
    assert [label.get_text() for label in figure.axes[1].texts] == ["0", "4.000"]
    without = draw(prediction(tmp_path, threshold=math.nan))
    assert [text.get_text() for text in without.texts] == ["no verdict, score 4.000"]


def test_a_score_beyond_the_scale_is_marked_at_its_end(tmp_path):
    figure = draw(replace(prediction(tmp_path), score=7.5))
    triangle, threshold = figure.axes[1].lines
    assert list(triangle.get_xdata()) == [4.0]
    assert list(threshold.get_xdata()) == [2.0, 2.0]
    assert "score 7.500" in figure.texts[0].get_text()


@pytest.mark.parametrize("threshold", [-2.0, -9.0, math.nan])
def test_scores_below_0_have_colours_too(tmp_path, threshold):
    """A detector's score may be the negative of a likeness: here -5 to -1, at most -1 in its test set."""
    above = prediction(tmp_path)
    found = replace(above, anomaly_map=above.anomaly_map - 5, score=-1.0, highest=-1.0, threshold=threshold)
    figure = draw(found)
    low = -9.0 if threshold == -9.0 else -5.0
    assert [label.get_text() for label in figure.axes[1].texts] == [f"{low:.3f}", "-1.000"]
    assert figure.axes[0].images[1].get_clim() == (low, -1.0)
    nothing = replace(found, anomaly_map=np.zeros((64, 64)), score=0.0, highest=0.0, threshold=math.nan)
    write_overlay(nothing, tmp_path / "out.png")  # no scale at all


def test_the_same_image_gives_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        write_overlay(prediction(tmp_path), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
