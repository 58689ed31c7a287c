"""Detectors in a suite's report: under their own names, next to BGAD, and never taken for one of its rows."""

import pytest
from synthetic import MVTEC, cell, metrics, result_rows, suite, table, type_metrics, under, write_cell

from bgad.report.averages import types_against_k0
from bgad.report.collect import collect
from bgad.report.page.page import page
from bgad.report.plots.cells import training_curves
from bgad.report.plots.epochs import best_epoch
from bgad.report.plots.means import auroc_by_k
from bgad.report.plots.methods import methods


def history(*images):
    return [
        {"epoch": n, "image_auroc": of, "pixel_auroc": 97.0, "aupro": 93.0, "released_pro": 92.0} for n, of in enumerate(images)
    ]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """All of MVTec AD's categories at k 0 with BGAD's row and both detectors, and with k 10; one seed."""
    root = tmp_path_factory.mktemp("small")
    last = {"bgad-wo": 90.0, "padim": 70.0, "patchcore": 80.0, "bgad": 95.0}
    cells = [
        cell(category, k=10 if method == "bgad" else 0, method=method, recipe="paper") for method in last for category in MVTEC
    ]
    for one in cells:
        value, epochs = last[one.method], (1, 2) if one.method.startswith("bgad") else (1,)
        types = {"cut": type_metrics(value - 5, known=one.k > 0)}
        of = metrics((value, value + (len(epochs) > 1)))
        write_cell(root, one, of, by_type=types, history=history(*(value for _ in epochs)))
    return root, cells


def test_every_method_has_its_own_name_in_the_tables(small):
    lines, records = table(*small)
    rows = result_rows(lines, "image AUROC")
    assert [head.split(",")[0] for head in rows["image AUROC"]] == ["PaDiM", "PatchCore", "bgad-wo", "bgad"]
    assert rows["mean over 15 categories"] == ["70.00", "80.00", "90.00 (91.00)", "95.00 (96.00)"]
    assert {record["method"] for record in records} >= {"patchcore", "padim"}  # by which the CSV names the cells


def test_no_published_number_is_next_to_a_detector(small):
    _, records = table(*small)
    shown = {record["method"] for record in records if record["published"]}
    assert shown == {"bgad-wo", "bgad"}


def test_a_detector_is_not_what_known_anomalies_are_held_against(small):
    root, cells = small
    types = types_against_k0(collect(cells, root))
    assert set(types["method"]) == {"bgad"}
    assert set(types["image_auroc_k0"]) == {85.0}  # of bgad-wo
    without = [one for one in cells if one.method != "bgad-wo"]
    assert types_against_k0(collect(without, root))["image_auroc_k0"].isna().all()


def test_a_detector_that_knows_anomalies_is_held_against_itself(tmp_path):
    cells = [cell(k=k, method=method) for method, k in (("bgad-wo", 0), ("bgad", 1), ("own", 0), ("own", 1))]
    for one, value in zip(cells, (60.0, 61.0, 70.0, 71.0), strict=True):
        write_cell(tmp_path, one, metrics((value, value)), by_type={"cut": type_metrics(value)})
    types = types_against_k0(collect(cells, tmp_path)).set_index("method")
    assert types["image_auroc_k0"].to_dict() == {"bgad": 60.0, "own": 70.0}


def test_epochs_are_of_methods_that_have_some(small):
    root, cells = small
    lines, records = table(root, cells)
    assert "PatchCore" not in under(lines, "What choosing the epoch adds")[""]
    assert {record["method"] for record in records if record["section"].startswith("epoch")} <= {"bgad", "bgad-wo"}
    collected = collect(cells, root)
    for draw in (best_epoch, training_curves):
        labels = [text.get_text() for text in draw(collected, "t").legends[0].get_texts()]
        assert any("bgad-wo" in label for label in labels)
        assert not any("PatchCore" in label for label in labels)


def test_a_detector_has_a_lane_of_its_own_and_none_against_k(small):
    root, cells = small
    axis = methods(collect(cells, root), "t").axes[0]
    lanes = dict(zip([label.get_text() for label in axis.get_yticklabels()], axis.get_yticks(), strict=True))
    drawn = {line.get_ydata()[0]: line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"}
    assert {name: drawn[y] for name, y in lanes.items()} == {
        "PaDiM, k = 0": 70.0,
        "PatchCore, k = 0": 80.0,
        "bgad-wo, k = 0": 90.0,
        "bgad, k = 10": 95.0,
    }
    (line,) = (line for line in auroc_by_k(collect(cells, root), "t").axes[0].lines if line.get_marker() == "o")
    assert line.get_ydata().tolist() == [90.0, 95.0]  # bgad-wo is BGAD's k 0, and nobody's mean is mixed


def test_the_page_names_them(small):
    root, cells = small
    text = page("a", suite(), cells[:45], root)
    assert '"method":"PatchCore"' in text and '"method":"patchcore"' not in text
