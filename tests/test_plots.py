"""The plots of a suite: that each says what it shows, with its numbers, and says so where there is nothing to show."""

import numpy as np
import pytest
from conftest import ROOT
from pages import IMAGES, write_images
from sklearn.metrics import average_precision_score, roc_auc_score
from synthetic import MVTEC, cell, headline, metrics, suite, three_seeds, type_metrics, write_cell

from bgad.config import paths
from bgad.report.collect import collect
from bgad.report.plots.cells import by_category, curves, training_curves
from bgad.report.plots.means import auroc_by_k, known_unseen
from bgad.report.plots.methods import methods
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


def test_methods_are_next_to_each_other_with_the_intervals_of_the_table(tmp_path):
    """bgad's seeds are 90, 92 and 97: 93 with half 8.96; PaDiM has one seed."""
    cells = three_seeds(tmp_path, "carpet")
    cells.append(cell("carpet", k=0, method="padim"))
    write_cell(tmp_path, cells[-1], metrics((60.0, 60.0)))
    figure = methods(collect(cells, tmp_path), "Does it hold?")
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["PaDiM, k = 0", "bgad, k = 10"]
    assert points(axis) == {(60.0, 0.0), (93.0, 1.0)} and {"60.00", "93.00"} <= set(texts(axis))
    (bar,) = (line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == 1)
    assert [round(float(x), 2) for x in bar.get_xdata()] == [84.04, 100.0]
    assert "Does it hold? The methods next to each other" in texts(figure)


def test_methods_show_the_published_mean_only_next_to_all_15_categories(tmp_path):
    cells = headline(tmp_path)
    assert (99.3, 0.0) in points(methods(collect(cells, tmp_path), "T").axes[0])
    few = methods(collect(cells[2:], tmp_path), "T")
    assert not any("published" in text for text in texts(few))


def test_methods_that_lack_cells_are_marked(small):
    root, cells = small
    figure = methods(collect(cells, root), "T")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["bgad-wo, k = 0", "bgad, k = 10 †"]
    assert any("† cells are missing" in text for text in texts(figure))


@pytest.mark.parametrize("draw", [*DRAWINGS.values()])
def test_no_text_covers_another(draw, tmp_path):
    """Of a suite like the demo: two data sets, both kinds of split, detectors, and methods with nearly the same metrics."""
    cells = [
        cell(category, split, k, method, seed, "a-recipe", dataset)
        for dataset, category in (("mvtec", "metal_nut"), ("mvtec", "transistor"), ("mini", "gravel"))
        for split in ("seen", "hard-cut")
        for k, method in ((0, "padim"), (0, "patchcore"), (0, "nf"), (0, "bgad-wo"), (1, "bgad"), (5, "bgad"), (10, "bgad"))
        for seed in (0, 1)
    ]
    for one in cells:
        types = {"cut": type_metrics(90.0, known=one.k > 0), "hole": type_metrics(89.9, known=False)}
        image = 90.0 + one.k / 100 + one.seed / 50
        write_cell(tmp_path, one, metrics((image, image + 0.1)), by_type=types, history=history(80.0, image + 0.1, image))
        write_images(tmp_path / one.folder)
    with style():
        figure = draw(collect(cells, tmp_path), "A suite with a rather long title")
        figure.draw_without_rendering()
    found = [text for axis in figure.axes for text in drawn_texts(axis)]
    for legend in figure.legends:
        found += [legend.get_title(), *legend.get_texts()]
    boxes = [(text.get_text(), text.get_window_extent().padded(-1)) for text in found if text.get_text()]
    assert len(boxes) > 10
    covered = [(a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[:i] if box.overlaps(other)]
    assert not covered


def drawn_texts(axis):
    """The texts of an axis, without tick labels that are outside its limits."""
    for one, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        for tick in one.get_major_ticks():
            if min(limits) <= tick.get_loc() <= max(limits) and tick.label1.get_visible():
                yield tick.label1
        yield one.label
    yield from axis.texts
    yield axis._left_title


def test_by_k_draws_the_mean_over_the_categories_that_are_complete_at_every_k(small):
    root, cells = small
    figure = auroc_by_k(collect(cells, root), "T")
    last = figure.axes[0]
    assert {(0.0, 90.5), (1.0, 95.5)} <= points(last)  # carpet only: k0 seeds 90 and 91, k10 seeds 95 and 96
    assert any("1 of 2 categories, those complete at every k" in text for text in texts(figure))
    assert any("lowest to the highest seed" in text for text in texts(figure))
    assert [label.get_text() for label in last.get_xticklabels()] == ["0", "10"]


def test_a_line_of_hard_splits_is_over_the_types_that_every_k_has(tmp_path):
    """Each type has the same metric at every k, and pill's color, the lowest, is not there at k 10: the line is flat at
    pill (90 + 80) / 2 = 85 and wood 70, so 77.5, and not at 75 with color (pill 80, wood 70)."""
    images = {("pill", "crack"): 90.0, ("pill", "scratch"): 80.0, ("pill", "color"): 70.0, ("wood", "hole"): 70.0}
    cells = [cell(category, f"hard-{kind}", k) for category, kind in images for k in (0, 1, 10) if (kind, k) != ("color", 10)]
    for one in cells:
        image = images[one.category, one.split.removeprefix("hard-")]
        write_cell(tmp_path, one, metrics((image, image)))
    figure = auroc_by_k(collect(cells, tmp_path), "T")
    assert points(figure.axes[0]) == {(0.0, 77.5), (1.0, 77.5), (2.0, 77.5)}
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
    assert {(-0.07, 95.3333), (-0.15, 90.3333), (0.15, 93.3333), (0.07, 88.3333)} <= marks
    assert texts(figure.axes[0]).count("2") == 2  # carpet and tile have one type of each


def test_by_category_shows_every_seed_and_their_mean(small):
    root, cells = small
    marks = {y: [] for y in (-0.2, 0.2, 0.8, 1.2)}
    for x, y in points(by_category(collect(cells, root), "T").axes[0]):
        marks[y].append(x)
    assert {y: sorted(x) for y, x in marks.items()} == {
        -0.2: [90.0, 90.5, 91.0],  # carpet, k0: two seeds and their mean
        0.2: [95.0, 95.5, 96.0],
        0.8: [90.0, 90.5, 91.0],
        1.2: [95.0],  # tile, k10: one seed, which is its own mean
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
