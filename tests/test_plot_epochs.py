"""The plot of what choosing the epoch adds: its dots, means and intervals, read back from the axes."""

import math

import pytest
from synthetic import cell, metrics, write_cell

from bgad.report.collect import collect
from bgad.report.plots.epochs import best_epoch

GAINS = {("carpet", 0): (0.0, 1.0, 2.0), ("carpet", 10): (2.0, 2.0, 2.0), ("tile", 0): (1.0, 1.0, 4.0)}


@pytest.fixture
def cells(tmp_path):
    """Image AUROC gains of three seeds; pixel AUROC gains 0.5 everywhere, AUPRO nothing. Six evaluations each."""
    rows = [{"epoch": e, "image_auroc": 90.0, "pixel_auroc": 97.0, "aupro": 93.0, "released_pro": 92.0} for e in range(6)]
    result = []
    for (category, k), images in GAINS.items():
        for seed, gain in enumerate(images):
            result.append(cell(category, k=k, seed=seed))
            write_cell(tmp_path, result[-1], metrics((90.0, 90.0 + gain), (97.0, 97.5)), history=rows)
    return result


def drawn(axis, y):
    """Of one lane: its dots, its interval's ends and its mean, rounded."""
    of = [line for line in axis.lines if len(line.get_ydata()) and abs(float(line.get_ydata()[0]) - y) < 1e-6]
    marks = {"": "interval", "None": "interval", "|": "mean"}
    return {marks.get(line.get_marker(), "dots"): [round(float(x), 3) for x in line.get_xdata()] for line in of}


def texts(figure):
    return " ".join(t.get_text().replace("\n", " ") for t in figure.findobj(lambda of: hasattr(of, "get_text")))


def test_each_lane_has_the_cells_gains_with_their_mean_and_interval(cells, tmp_path):
    """Halves are 4.3027 sd / sqrt(3): 2.484 for carpet at k0, none at k10, 4.303 for tile; what is below 0 is cut."""
    image, pixel, aupro = best_epoch(collect(cells, tmp_path), "T").axes
    assert drawn(image, -0.2) == {"dots": [0, 1, 2], "interval": [0, 3.484], "mean": [1]}
    # Equal gains have no interval.
    for axis, y, gain in ((image, 0.2, 2), (pixel, -0.2, 0.5), (aupro, -0.2, 0)):
        equal = drawn(axis, y)
        assert equal.pop("interval") == pytest.approx([math.nan] * 2, nan_ok=True)
        assert equal == {"dots": [gain] * 3, "mean": [gain]}
    assert drawn(image, 0.8) == {"dots": [1, 1, 4], "interval": [0, 6.303], "mean": [2]}
    assert image.get_xlim() == pytest.approx((-0.15, 5.0))  # the largest gain, 4, and a quarter of it


def test_a_setting_has_one_colour_and_its_name(cells, tmp_path):
    figure = best_epoch(collect(cells, tmp_path), "T")
    colours = {
        y: {line.get_color() for line in figure.axes[0].lines if abs(line.get_ydata()[0] - y) < 1e-6} for y in (-0.2, 0.2)
    }
    assert [len(of) for of in colours.values()] == [1, 1] and colours[-0.2] != colours[0.2]
    assert "bgad-wo, k = 0" in texts(figure) and "bgad, k = 10" in texts(figure)


def test_the_caption_says_how_many_evaluations_there_were(cells, tmp_path):
    said = texts(best_epoch(collect(cells, tmp_path), "T"))
    assert "Evaluations per cell: 6." in said and "Few evaluations leave little to choose from" in said
    assert "Hard splits" not in said and "†" not in said


def test_hard_splits_are_apart_and_a_seed_is_the_mean_over_their_types(cells, tmp_path):
    hard = [cell(split=f"hard-{kind}", seed=seed) for kind in ("cut", "hole") for seed in (0, 1)]
    for one, gain in zip(hard, (0.0, 1.0, 2.0, 5.0), strict=True):  # seeds' means 1 and 3: 2, half 12.706
        write_cell(tmp_path, one, metrics((90.0, 90.0 + gain)))
    figure = best_epoch(collect(cells + hard, tmp_path), "T")
    assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["mvtec\nseen splits", "mvtec\nhard splits"]
    assert drawn(figure.axes[3], 0.2) == {"dots": [0, 1, 2, 5], "interval": [0, 14.706], "mean": [2]}
    assert "Hard splits have a cell for each known type" in texts(figure) and "6 (of some unknown)" in texts(figure)


def test_a_missing_cell_is_marked_and_a_single_seed_has_no_interval(cells, tmp_path):
    for one in cells[:2]:
        (tmp_path / one.folder / "metrics.json").unlink()
    figure = best_epoch(collect(cells, tmp_path), "T")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["carpet †", "tile"]
    lane = drawn(figure.axes[0], -0.2)
    assert (lane["dots"], lane["mean"]) == ([2], [2]) and str(lane["interval"]) == "[nan, nan]"
    assert "† some of the category's cells are missing" in texts(figure)


def test_a_single_evaluation_is_said_instead(tmp_path):
    write_cell(tmp_path, cell(), metrics((90.0, 90.0)), history=[dict.fromkeys(("epoch", "image_auroc"), 1) | BLANK])
    figure = best_epoch(collect([cell()], tmp_path), "T")
    assert not figure.axes and "no epoch to choose" in texts(figure)


BLANK = {"pixel_auroc": "", "aupro": "", "released_pro": ""}
