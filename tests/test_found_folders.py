"""Folders as people have them: what is used, what is noted, and what is an error that names the file and the way out."""

import re
from pathlib import Path

import numpy as np
import pytest
from folders import HEIGHT, WIDTH, make_category, mask_of, save, write_image, write_mask
from PIL import Image

from bgad import cli
from bgad.config.settings import Dataset
from bgad.data import checks
from bgad.data.files import image_files
from bgad.data.layouts import Index, build_index
from bgad.errors import DataError


def index_of(root: Path, **settings) -> Index:
    """The index, which is the same after it was saved."""
    index = build_index("own", "bottle", root, Dataset(**settings))
    index.save(root / "index.json")
    assert Index.load(root / "index.json") == index
    return index


def refused(root: Path, *words: object, **settings) -> None:
    with pytest.raises(DataError) as error:
        index_of(root, **settings)
    assert all(str(word) in str(error.value) for word in words), error.value


def masks_in(index: Index) -> dict[str, str | None]:
    return {image.path: image.mask for image in index.images if image.anomalous}


def noted(index: Index, *words: str) -> None:
    """The index has one note, with these words, and it reaches the log."""
    assert len(index.notes) == 1 and all(word in index.notes[0] for word in words), index.notes
    assert index.notes[0] in checks.of_index(index)


@pytest.mark.parametrize("part", ["train/good", "test/good", "test/cut"])
def test_images_in_subfolders_are_not_left_out_silently(tmp_path, part):
    folder = make_category(tmp_path)
    for name in ("monday/a.png", "monday/b/c.PNG"):
        write_image(folder / part / name, name)
    refused(tmp_path, folder / part, "2 of its", "monday/a.png", "move them")


def test_images_in_other_formats_are_not_left_out_silently(tmp_path):
    folder = make_category(tmp_path)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "train/good/x.gif")
    refused(tmp_path, folder / "train/good", "1 of its 5", ".gif", "WebP")


def test_webp_is_an_image(tmp_path):
    folder = make_category(tmp_path)
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(folder / "train/good/x.WEBP", format="WEBP")
    assert "train/good/x.WEBP" in [image.path for image in index_of(tmp_path).images]


def test_what_is_not_used_is_counted_and_noted(tmp_path):
    folder = make_category(tmp_path)
    write_image(folder / "val `x`/good/000.png", "other part")
    for name in ("test/cut/a.txt", "test/cut/b.json", "ground_truth/cut/900_mask.png", "test/cut/Thumbs.db"):
        (folder / name).touch()
    index = index_of(tmp_path)
    noted(index, "4 files", "1 in ground_truth/cut (.png)", "2 in test/cut (.json, .txt)", "1 in val `x`/good (.png)")


MASKS = ["000.png", "000_mask.jpg", "000_mask.tif", "000_mask.PNG", "000.WebP", "000_mask.bmp"]


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("layout", ["mvtec", "btad"])
def test_masks_have_their_images_name_in_any_format(tmp_path, name, layout):
    folder = make_category(tmp_path, layout=layout)
    mask = mask_of(folder, "hole", 0, layout)
    with Image.open(mask) as image:
        image.copy().save(new := folder / "ground_truth/hole" / ("new" + Path(name).suffix.lower()))
    mask.unlink()
    new.rename(folder / "ground_truth/hole" / name)
    index = index_of(tmp_path, layout=layout)
    assert masks_in(index)["test/hole/000.png"] == f"ground_truth/hole/{name}"
    assert len(index.notes) == (name.endswith((".jpg", ".WebP")))  # of their noise


def test_two_masks_of_an_image_and_two_images_of_a_mask_are_errors(tmp_path):
    folder = make_category(tmp_path)
    write_mask(extra := folder / "ground_truth/cut/001.png")
    refused(tmp_path, folder / "test/cut/001.png", "001_mask.png", "001.png")
    extra.unlink()
    write_image(folder / "test/cut/001.jpg", "of the same stem")
    refused(tmp_path, folder / "test/cut/001.", "001.jpg", "001_mask.png")


def test_masks_under_other_names_are_named(tmp_path):
    folder = make_category(tmp_path, types={"cut": 3})
    mask_of(folder, "cut", 1).rename(folder / "ground_truth/cut/001_gt.png")
    index = index_of(tmp_path)
    assert index.unmasked == {"test/cut/001.png"}
    assert any("test/cut/001.png" in note and "001_gt.png" in note for note in index.notes)
    refused(tmp_path, folder / "test/cut/001.png", "001_mask.png", "001_gt.png", strict=True)
    for number in (0, 2):
        mask_of(folder, "cut", number).rename(folder / f"ground_truth/cut/{number:03}_gt.png")
    refused(tmp_path, folder / "test/cut/000.png", "000_gt.png")  # all of them: the names are wrong


def test_a_missing_and_an_empty_mask_leave_the_image_to_image_metrics(tmp_path):
    folder = make_category(tmp_path, types={"cut": 4})
    mask_of(folder, "cut", 1).unlink()
    write_mask(mask_of(folder, "cut", 3), value=0)
    index = index_of(tmp_path)
    assert index.has_masks and index.unmasked == {"test/cut/001.png", "test/cut/003.png"}
    assert [note.split(" (")[0].split(":")[0] for note in index.notes] == [
        "1 anomalous image has no mask",
        "1 anomalous image has an empty mask",
    ]
    assert "test/cut/001.png" in index.notes[0] and "test/cut/003.png" in index.notes[1]
    refused(tmp_path, folder / "test/cut/001.png", "001_mask.png", strict=True)
    write_mask(mask_of(folder, "cut", 1))
    refused(tmp_path, mask_of(folder, "cut", 3), "empty", strict=True)


def test_without_any_usable_mask_a_category_has_none(tmp_path):
    folder = make_category(tmp_path, types={"cut": 2})
    for number in range(2):
        write_mask(mask_of(folder, "cut", number), value=0)
    index = index_of(tmp_path)
    assert not index.has_masks and not index.unmasked
    noted(index, "2 anomalous images", "empty mask", "no pixel metrics")


def test_a_mask_of_the_same_aspect_ratio_is_resized(tmp_path):
    folder = make_category(tmp_path)
    write_mask(mask_of(folder, "cut", 0), height=2 * HEIGHT, width=2 * WIDTH)
    write_mask(mask_of(folder, "cut", 1), height=HEIGHT // 2, width=WIDTH // 2)
    noted(index_of(tmp_path), "2 masks", "another size", "test/cut/000.png")
    write_mask(mask_of(folder, "cut", 0), height=WIDTH, width=HEIGHT)
    refused(tmp_path, mask_of(folder, "cut", 0), "12x16", "16x12")


def test_masks_that_cannot_be_right_are_noted_with_their_share(tmp_path):
    folder = make_category(tmp_path, types={"cut": 3})
    for number in range(3):
        mask = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
        mask[0] = 0
        save(mask_of(folder, "cut", number), mask)
    noted(index_of(tmp_path), "3 masks", "91.7 %", "inverted")


def test_jpeg_masks_are_noted_with_their_share(tmp_path):
    folder = make_category(tmp_path, types={"cut": 1})
    mask = np.full((HEIGHT, WIDTH), 20, dtype=np.uint8)
    mask[:, :8] = 255
    mask_of(folder, "cut", 0).unlink()
    Image.fromarray(mask).save(folder / "ground_truth/cut/000_mask.jpg")
    noted(index_of(tmp_path), "1 mask is JPEG", "50.0 %")


@pytest.mark.parametrize("name", ["groundtruth", "Ground_Truth", "ground_truths", "masks"])
def test_a_misspelt_folder_of_masks_is_noted(tmp_path, name):
    folder = make_category(tmp_path)
    (folder / "ground_truth").rename(folder / name)
    index = index_of(tmp_path)
    assert not index.has_masks
    assert name in index.notes[0] and "ground_truth" in index.notes[0].replace(name, "")
    assert "Not used: 5 files" in index.notes[1]


@pytest.mark.parametrize("bit_depth", [None, 12])
def test_16_bits_are_noted_and_their_depth_goes_into_the_index(tmp_path, bit_depth):
    folder = make_category(tmp_path)
    save(folder / "train/good/deep.png", np.full((HEIGHT, WIDTH), 4000, dtype=np.uint16))
    index = index_of(tmp_path, bit_depth=bit_depth)
    assert index.bit_depth == bit_depth
    noted(index, "1 image has 16 bits", "65535" if bit_depth is None else "4095", "train/good/deep.png")
    if bit_depth:
        refused(tmp_path, folder / "train/good/deep.png", "4000", bit_depth=10)


@pytest.mark.parametrize("train", ["OK", "Train/Good", "train/ok"])
def test_other_layouts_are_told_how_to_name_their_folders(tmp_path, train):
    folder = tmp_path / "bottle"
    for name in (f"{train}/0.png", f"{train}/1.png", "NG/2.png"):
        write_image(folder / name, name)
    refused(tmp_path, folder / "train/good", f"2 in {train}", "1 in NG", "test/<type>", "PNG, JPEG, BMP, TIFF or WebP")


def test_folders_of_file_servers_are_passed_over_and_other_odd_names_refused(tmp_path):
    folder = make_category(tmp_path)
    before = image_files(folder, "test")
    for name in ("@eaDir", "#recycle", "__MACOSX", ".git"):
        write_image(folder / "test" / name / "000.png", name)
    assert image_files(folder, "test") == before and index_of(tmp_path).notes == ()
    write_image(folder / "test/@mine/000.png", "mine")
    with pytest.raises(DataError, match=re.escape("test/@mine")):
        image_files(folder, "test")


@pytest.mark.parametrize(
    ("name", "category", "note"),
    [("mvtec", "bottle", "Not the published mvtec: bottle/train/good has 4 images instead of 209."), ("btad", "01", None)],
)
def test_a_folder_named_as_a_published_data_set_is_the_users(tmp_path, monkeypatch, capsys, name, category, note):
    make_category(tmp_path / name, category)
    settings = f'{{"{name}": {{"layout": "mvtec"}}}}'
    words = ["index", "--dataset", name, "--category", category, "--root", tmp_path / name, "--datasets", settings]
    monkeypatch.setattr("sys.argv", ["bgad", *map(str, words), "--output", str(tmp_path / "index.json")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code and capsys.readouterr().out.splitlines() == ([f"note: {note}"] if note else [])
    assert Index.load(tmp_path / "index.json").notes == ((note,) if note else ())


def test_what_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    folder = make_category(tmp_path)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("bgad.data.files.os.scandir", denied)
    with pytest.raises(DataError, match=re.escape(f"{folder / 'train/good'}: cannot be read (Permission denied)")):
        image_files(folder, "train", only="good")
