"""The page of CutPaste examples: its panels against the stages computed apart, which anomalies it shows, and what it names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from folders import make_category
from PIL import Image

from bgad.anomalies.cutpaste import cut_paste, foreground
from bgad.config.settings import Dataset
from bgad.data.images import read_image, read_mask
from bgad.data.layouts import build_index
from bgad.data.splits import draw
from bgad.errors import BgadError
from bgad.randomness import numpy_generator
from bgad.report.plots import examples


def category(root: Path, name="part", **of):
    make_category(root, name, types={"cut": 6, "hole": 6}, **of)
    index = build_index("own", name, root, Dataset(path=root))
    return index, draw(index, "seen", 0), root / name


def test_an_example_is_what_cut_paste_makes_with_the_same_draws(tmp_path):
    index, split, folder = category(tmp_path)
    for anomaly in split.pool[:4]:
        shown = examples.example(index, split, folder, anomaly)
        rng = numpy_generator("examples", "own", "part", "seen", 0, anomaly)
        normal_path = split.train_normal[rng.integers(len(split.train_normal))]
        normal = read_image(folder / normal_path)
        mask = read_mask(folder / anomaly.replace("test", "ground_truth").replace(".png", "_mask.png"))
        pasted, where = cut_paste(normal, foreground(normal, False), read_image(folder / anomaly), mask, rng)
        assert shown.paths == (anomaly, normal_path)
        assert np.array_equal(shown.pasted, pasted) and np.array_equal(shown.where, where)
        assert np.array_equal(shown.known, read_image(folder / anomaly)) and np.array_equal(shown.mask, mask)
        assert np.array_equal(shown.pasted[~where], normal[~where])
        assert where.any() and not np.array_equal(shown.pasted, normal)


def test_the_panels_of_a_row_are_the_stages_in_their_order(tmp_path):
    index, split, folder = category(tmp_path)
    figure = examples.draw("t", [(index, split, folder)], rows_per_category=2)
    panels = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    first, second = examples.chosen(index, split, 2)
    stages = []
    for anomaly in (first, second):
        of = examples.example(index, split, folder, anomaly)
        stages += [of.known, of.mask, of.augmented, of.pasted]
    assert len(panels) == 8
    # Images of 12 x 16 pixels are shown as they are.
    assert all(np.array_equal(panel, stage) for panel, stage in zip(panels, stages, strict=True))


def test_a_panel_lies_on_the_page_pixel_by_pixel(tmp_path):
    """Of 12 x 16 pixels, each drawn as 12 x 12 pixels of the page: only the outlines cover any of them."""
    figure = examples.draw("t", [category(tmp_path)], rows_per_category=2)
    page = examples.pixels(figure)
    panels = [axis for axis in figure.axes if axis.images]
    assert len(panels) == 8
    for axis in [panels[column] for column in (0, 1, 4, 5)]:
        left, top, right, bottom = (round(edge) for edge in axis.bbox.extents)
        drawn = page[len(page) - bottom : len(page) - top, left:right]
        of = axis.images[0].get_array()
        colours = np.repeat(of[:, :, None] * 255, 3, axis=2) if of.ndim == 2 else of
        assert drawn.shape == (144, 192, 3)
        assert np.array_equal(drawn, colours.repeat(12, axis=0).repeat(12, axis=1))


def test_outlines_go_around_the_masks_and_the_foreground(tmp_path):
    index, split, folder = category(tmp_path)
    for of, columns in ((index, [0, 0, 1, 2]), (replace(index, texture=True), [0, 0, 1, 1])):
        figure = examples.draw("t", [(of, split, folder)], rows_per_category=1)
        axes = [axis for axis in figure.axes if axis.images]
        assert [len(axis.collections) for axis in axes] == columns
        shown = examples.example(of, split, folder, examples.chosen(of, split, 1)[0])
        for axis, mask in ((axes[2], shown.moved), (axes[3], shown.where)):
            line = axis.collections[-1].get_paths()[0].vertices
            rows, columns_of = np.nonzero(mask)
            away = examples.AWAY * 16 / examples.PANEL
            least, most = [columns_of.min() - away, rows.min() - away], [columns_of.max() + 1 + away, rows.max() + 1 + away]
            assert np.allclose(line.min(axis=0), least) and np.allclose(line.max(axis=0), most)


def test_the_lines_keep_their_colours_on_a_page_of_gray_images():
    """As many grays as there is room for, and a line of a thousandth of the pixels."""
    page = np.repeat(np.random.default_rng(0).integers(0, 256, (500, 400, 1), dtype=np.uint8), 3, axis=2)
    page[250, 100:300] = (255, 230, 0)
    shown = np.asarray(examples.few_colours(page).convert("RGB"), dtype=int)
    assert abs(shown[250, 100:300] - (255, 230, 0)).max() < 20
    assert abs(np.delete(shown, 250, axis=0) - np.delete(page, 250, axis=0)).mean() < 2


def test_the_first_of_each_type_comes_before_the_second_of_any(tmp_path):
    index, split, _ = category(tmp_path)
    pool = [f"test/{name}.png" for name in ("cut/000", "cut/001", "cut/002", "hole/000", "cut/003", "hole/001")]
    split = replace(split, pool=tuple(pool))
    assert examples.chosen(index, split, 2) == [pool[0], pool[3]]
    assert examples.chosen(index, split, 4) == [pool[0], pool[3], pool[1], pool[2]]
    assert sorted(examples.chosen(index, split, 99)) == sorted(pool)


def test_a_large_mask_is_shown_by_its_nearest_pixels():
    mask = np.zeros((400, 1000), dtype=bool)
    mask[100:200, 300:320] = True
    small = examples._small(mask)
    assert small.shape == (80, 200)
    assert np.array_equal(np.argwhere(small).min(axis=0), [20, 60])
    assert np.array_equal(np.argwhere(small).max(axis=0), [39, 63])


def test_the_page_is_the_same_bytes_each_time_and_a_complete_image(tmp_path):
    of = [category(tmp_path / "data", "part"), category(tmp_path / "data", "other")]
    for name in ("a.png", "b.png"):
        examples.write_examples("Title", of, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as page:
        assert page.convert("RGB").getextrema() != ((255, 255),) * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "data"]


def test_a_category_without_masks_is_named_and_the_others_are_shown(tmp_path):
    of = [category(tmp_path, "part"), category(tmp_path, "bare", masks=False)]
    figure = examples.draw("t", of, rows_per_category=1)
    words = " ".join(text.get_text() for text in figure.texts)
    assert "No example of bare (no masks)." in words.replace("\n", " ")
    assert sum(bool(axis.images) for axis in figure.axes) == 4


def test_a_suite_that_knows_no_anomaly_says_so(tmp_path):
    examples.write_examples("Title", [], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("dataset", "times"), [("mvtec", 1), ("own", 0)])
def test_a_page_with_images_of_a_licensed_data_set_carries_its_licence_once(tmp_path, dataset, times):
    of = [category(tmp_path, name) for name in ("part", "other")]
    of = [(replace(index, dataset=dataset), split, folder) for index, split, folder in of]
    words = " ".join(text.get_text() for text in examples.draw("t", of, rows_per_category=1).texts).replace("\n", " ")
    assert words.count("CC BY-NC-SA 4.0") == times and words.count("under the same licence") == times


def test_fifteen_categories_make_a_page_that_can_be_sent_around(tmp_path):
    """Noise is what compresses least."""
    make_category(tmp_path, "noise", types={"cut": 3, "hole": 3}, train=1, good=1)
    rng = np.random.default_rng(0)
    for path in (tmp_path / "noise").rglob("*.png"):
        if "ground_truth" in path.parts:
            mask = np.zeros((300, 300), dtype=np.uint8)
            mask[100:160, 90:200] = 255
            Image.fromarray(mask).save(path)
        else:
            Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(path)
    index = build_index("own", "noise", tmp_path, Dataset(path=tmp_path))
    examples.write_examples("t", [(index, draw(index, "seen", 0, 4), tmp_path / "noise")] * 15, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size < 3_000_000


def test_a_broken_image_is_named_and_leaves_no_page(tmp_path):
    index, split, folder = category(tmp_path)
    for path in folder.rglob("test/*/*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(BgadError, match="replace the file or remove it"):
        examples.write_examples("t", [(index, split, folder)], tmp_path / "page.png")
    assert not (tmp_path / "page.png").exists()
