"""The gallery of a cell: tiles in their places, peaks and defects that do not get lost, scores that can be read back."""

import json

import numpy as np
from PIL import Image

from bgad.config.paths import GALLERY
from bgad.data.images import THUMBNAIL, thumbnail
from bgad.evaluation.gallery import COLUMNS, sheet, write_gallery


def written(folder, count=12, masks=True, threshold=2.5):
    """``count`` images of 8 x 8 with tiles of 4: image i is gray i, its map is i but for a peak of 20 + i at (5, 6)."""
    thumbnails = np.stack([np.full((4, 4, 3), number, np.uint8) for number in range(count)])
    maps = np.stack([np.full((8, 8), float(number)) for number in range(count)])
    maps[:, 5, 6] = 20.0 + np.arange(count)
    defects = np.zeros((count, 8, 8), bool)
    defects[1, 0, 0] = True
    write_gallery(folder, thumbnails, defects if masks else None, maps, threshold)
    return maps, json.loads((folder / "gallery.json").read_text())


def tile(folder, name, place, side=4):
    pixels = np.asarray(Image.open(folder / name))
    row, column = divmod(place, COLUMNS)
    return pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]


def test_a_tile_is_in_the_place_of_its_row_in_the_scores(tmp_path):
    written(tmp_path)
    for place in (0, 1, 9, 10, 11):
        assert np.abs(tile(tmp_path, "images.jpg", place).astype(int) - place).max() <= 3  # a JPEG
    assert not tile(tmp_path, "images.jpg", 12).any()  # the rest of the last row


def test_a_peak_of_a_single_pixel_keeps_its_score(tmp_path):
    maps, record = written(tmp_path)
    scale = (record["score_of_white"] - record["score_of_black"]) / 255
    for place in (0, 7, 11):
        grays = tile(tmp_path, "maps.png", place).astype(float)
        scores = record["score_of_black"] + grays * scale
        # (5, 6) of 8 x 8 is (2, 3) of 4 x 4.
        assert np.unravel_index(scores.argmax(), scores.shape) == (2, 3)
        assert abs(scores.max() - maps[place].max()) <= scale / 2
        assert abs(scores.min() - place) <= scale / 2


def test_a_defect_of_a_single_pixel_is_kept(tmp_path):
    written(tmp_path)
    assert np.argwhere(tile(tmp_path, "masks.png", 1)).tolist() == [[0, 0]]
    assert not tile(tmp_path, "masks.png", 0).any()


def test_the_record_says_what_the_sheets_are(tmp_path):
    _, record = written(tmp_path)
    assert record == {
        "count": 12,
        "columns": COLUMNS,
        "tile": 4,
        "has_masks": True,
        "score_of_black": 0.0,
        "score_of_white": 31.0,
        "threshold": 2.5,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(GALLERY)


def test_without_masks_and_without_anomalies_it_says_so(tmp_path):
    _, record = written(tmp_path, masks=False, threshold=float("nan"))
    assert record["has_masks"] is False and record["threshold"] is None
    assert not np.asarray(Image.open(tmp_path / "masks.png")).any()


def test_the_threshold_is_written_as_the_scores_are(tmp_path):
    score = np.float32(1.9290874)
    _, record = written(tmp_path, threshold=float(score))
    assert float(f"{score:.7g}") >= record["threshold"]


def test_equal_maps_are_black(tmp_path):
    write_gallery(tmp_path, np.zeros((1, 4, 4, 3), np.uint8), None, np.full((1, 8, 8), 3.0), 3.0)
    assert not np.asarray(Image.open(tmp_path / "maps.png")).any()


def test_a_sheet_by_hand():
    tiles = np.arange(11)[:, None, None] * np.ones((1, 2, 2), int)
    found = sheet(tiles)
    assert found.shape == (4, 20)
    assert found[0].tolist() == [number for number in range(10) for _ in range(2)]
    assert found[2].tolist() == [10, 10, *[0] * 18]


def test_a_thumbnail_keeps_colours_and_sides():
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, 128:] = (10, 200, 90)
    small = thumbnail(image)
    assert small.shape == (THUMBNAIL, THUMBNAIL, 3)
    assert small[50, 10].tolist() == [0, 0, 0] and small[50, 80].tolist() == [10, 200, 90]
