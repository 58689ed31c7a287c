"""The plots of a suite: that each says what it shows, with its numbers, and says so where there is nothing to show."""

import numpy as np
import pytest
from conftest import ROOT
from pages import IMAGES, write_images
from sklearn.metrics import average_precision_score, roc_auc_score
from synthetic import MVTEC, cell, metrics, suite, type_metrics, write_cell

from bgad.config import paths
from bgad.report.collect import collect
from bgad.report.plots.cells import by_category, curves, training_curves
from bgad.report.plots.means import auroc_by_k, known_unseen
from bgad.report.plots.style import save, style
from bgad.report.plots.suite import DRAWINGS, write_plots


def history(*images):
    """Evaluations in meta epochs 0, 2, 4, ...; none in between."""
    rows = []
    for epoch, image in enumerate(images):
        rows.append({"epoch": 2 * epoch, "image_auroc": image, "pixel_auroc": 97.0, "aupro": 93.0, "released_pro": 92.0})
        rows.append({"epoch": 2 * epoch + 1, "image_auroc": "", "pixel_auroc": "", "aupro": "", "released_pro": ""})
    return rows[:-1]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """carpet and tile, k 0 and 10, two seeds; tile's last cell is missing, so means are over carpet only."""
    root = tmp_path_factory.mktemp("small")
    cells = [cell(category, k=k, seed=seed) for category in ("carpet", "tile") for k in (0, 10) for seed in (0, 1)]
    for one in cells[:-1]:
        last = 90.0 + one.k / 2 + one.seed
        types = {"cut": type_metrics(last, known=one.k > 0), "hole": type_metrics(last - 2.0, known=False)}
        write_cell(root, one, metrics((last, last + 1.0)), by_type=types, history=history(80.0, last + 1.0, last))
    return root, cells


def texts(figure):
    """Every text, its lines joined."""
    found = figure.findobj(lambda of: hasattr(of, "get_text"))
    return [text.get_text().replace("\n", " ") for text in found if text.get_text()]


def points(axis):
    """(x, y) of every mark of an axis."""
    marked = [line for line in axis.lines if line.get_marker() not in ("None", "", None)]
    return {(round(float(x), 2), round(float(y), 4)) for line in marked for x, y in zip(*line.get_data(), strict=True)}


def test_every_plot_has_a_caption_in_the_workflow_s_report():
    assert {name for name in paths.PLOTS} <= {path.stem for path in (ROOT / "workflow/report").glob("*.rst")}


def test_every_plot_is_svg_and_png_with_its_words(small, tmp_path):
    root, cells = small
    write_plots(suite("Title of a suite"), cells, tmp_path, root)
    for name in DRAWINGS:
        svg = (tmp_path / f"{name}.svg").read_text()
        assert "Title of a suite" in svg and "<dc:date>" not in svg
        assert "image AUROC" in svg or name == "curves"
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "by-category.svg").read_text()
    assert "tile †" in svg and "carpet †" not in svg and "bgad, k = 10" in svg
    assert len(list(tmp_path.iterdir())) == 2 * len(DRAWINGS)  # nothing half-written stays


def test_drawn_again_it_is_the_same_bytes(small, tmp_path):
    root, cells = small
    with style():
        for name in ("a", "b"):
            save(auroc_by_k(collect(cells, root), "T"), tmp_path / name)
    for ending in ("svg", "png"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_by_k_draws_the_mean_over_the_categories_that_are_complete_at_every_k(small):
    root, cells = small
    figure = auroc_by_k(collect(cells, root), "T")
    last, best = figure.axes[0], figure.axes[3]
    # carpet only: k0 seeds 90 and 91, k10 seeds 95 and 96; best is one more.
    assert {(0.0, 90.5), (1.0, 95.5)} <= points(last)
    assert {(0.0, 91.5), (1.0, 96.5)} <= points(best)
    assert any("1 of 2 categories, those complete at every k" in text for text in texts(figure))
    assert any("lowest to the highest seed" in text for text in texts(figure))
    assert [label.get_text() for label in best.get_xticklabels()] == ["0", "10"]


def test_a_line_of_hard_splits_is_over_the_types_that_every_k_has(tmp_path):
    """Each type has the same metric at every k, and pill's color, the lowest, is not there at k 10: the line is flat at
    pill (90 + 80) / 2 = 85 and wood 70, so 77.5, and not at 75 with color (pill 80, wood 70)."""
    images = {("pill", "crack"): 90.0, ("pill", "scratch"): 80.0, ("pill", "color"): 70.0, ("wood", "hole"): 70.0}
    cells = [cell(category, f"hard-{kind}", k) for category, kind in images for k in (0, 1, 10) if (kind, k) != ("color", 10)]
    for one in cells:
        image = images[one.category, one.split.removeprefix("hard-")]
        write_cell(tmp_path, one, metrics((image, image)))
    figure = auroc_by_k(collect(cells, tmp_path), "T")
    assert points(figure.axes[0]) == points(figure.axes[3]) == {(0.0, 77.5), (1.0, 77.5), (2.0, 77.5)}
    assert any("mean over 2 categories, over 3 of 4 types" in text for text in texts(figure))
    # A type that is left out makes nothing incomplete.
    (tmp_path / cells[6].folder / "metrics.json").unlink()  # color, k 0
    assert points(auroc_by_k(collect(cells, tmp_path), "T").axes[0]) == {(0.0, 77.5), (1.0, 77.5), (2.0, 77.5)}
    said = " ".join(texts(by_category(collect(cells, tmp_path), "T")))
    assert "(pill with k = 10 over 2 of 3 types)" in said


def test_by_k_shows_the_published_mean_only_next_to_all_15_categories(tmp_path):
    cells = [cell(category) for category in MVTEC]
    for one in cells:
        write_cell(tmp_path, one, metrics((98.0, 99.0)))
    assert "99.3" in texts(auroc_by_k(collect(cells, tmp_path), "T"))
    assert "99.3" not in texts(auroc_by_k(collect(cells[1:], tmp_path), "T"))


def test_known_and_unseen_types_with_the_same_types_at_k0(small):
    root, cells = small
    figure = known_unseen(collect(cells, root), "T")
    # k10: known 95, 96 (carpet) and 95 (tile), mean 95.3333; the same at k0: 90, 91, 90. Unseen are two lower.
    marks = points(figure.axes[0])
    assert {(-0.11, 95.3333), (-0.11, 90.3333), (0.11, 93.3333), (0.11, 88.3333)} <= marks
    assert texts(figure.axes[0]).count("2") == 2  # carpet and tile have one type of each


def test_by_category_shows_every_seed_and_the_means_of_last_and_best(small):
    root, cells = small
    marks = {y: [] for y in (-0.2, 0.2, 0.8, 1.2)}
    for x, y in points(by_category(collect(cells, root), "T").axes[0]):
        marks[y].append(x)
    assert {y: sorted(x) for y, x in marks.items()} == {
        -0.2: [90.0, 90.5, 91.0, 91.5],  # carpet, k0: two seeds, mean of last 90.5, of best 91.5
        0.2: [95.0, 95.5, 96.0, 96.5],
        0.8: [90.0, 90.5, 91.0, 91.5],
        1.2: [95.0, 96.0],  # tile, k10: one seed, so its mean of last is itself
    }


def test_training_curves_mark_last_and_best(small):
    root, cells = small
    axis = training_curves(collect(cells, root), "T").axes[0]
    assert points(axis) == {(4, 90.0), (2, 91.0), (4, 91.0), (2, 92.0), (4, 95.0), (2, 96.0), (4, 96.0), (2, 97.0)}
    curve = max(axis.lines, key=lambda line: len(line.get_xdata()))
    assert np.array_equal(curve.get_xdata(), [0, 2, 4])  # only where it was evaluated


def test_curves_are_those_of_the_scores_one_line_a_cell(tmp_path):
    """Two seeds of carpet at k 10, and one cell each without scores.csv and with normal images only, which are counted."""
    cells = [cell(seed=seed) for seed in range(4)]
    for one in cells:
        write_cell(tmp_path, one, metrics((90.0, 90.0)))
    images = [(path, kind, score + place % 2) for place, (path, kind, score) in enumerate(IMAGES)]
    for one, of in zip(cells, (IMAGES, images, IMAGES[:2]), strict=False):
        write_images(tmp_path / one.folder, of)
    figure = curves(collect(cells, tmp_path), "T")
    roc, precision_recall = figure.axes
    assert len(roc.lines) == len(precision_recall.lines) == 2
    for of, line, of_recall in zip((IMAGES, images), roc.lines, precision_recall.lines, strict=True):
        labels, scores = [kind != "good" for _, kind, _ in of], [score for _, _, score in of]
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(roc_auc_score(labels, scores))
        recall, precision = of_recall.get_data()
        assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(average_precision_score(labels, scores))
    said = " ".join(texts(figure))
    assert "bgad, k = 10 (mvtec, seen, cpu)" in said and "there are 2." in said and "2 measured cells have no usable" in said


@pytest.mark.parametrize("draw", [*DRAWINGS.values()])
def test_a_plot_with_nothing_to_show_says_so(draw, tmp_path):
    figure = draw(collect([cell()], tmp_path), "T")
    assert not figure.axes
    assert any("nothing to show" in text or "every defect type is unseen" in text for text in texts(figure))


def test_a_suite_without_any_complete_category_says_so(tmp_path):
    cells = [cell(k=0), cell(k=10)]
    write_cell(tmp_path, cells[0], metrics((98.0, 99.0)))
    assert any("No category is complete" in text for text in texts(auroc_by_k(collect(cells, tmp_path), "T")))
