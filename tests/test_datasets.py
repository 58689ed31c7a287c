"""The index and the catalogue of folders, and the errors for files that cannot be used."""

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from folders import HEIGHT, WIDTH, make_category, mask_of, save, truncate, write_image, write_mask
from PIL import Image

from bgad.config.settings import Dataset
from bgad.data import mini
from bgad.data.download import presets
from bgad.data.download.dataset import check_copy
from bgad.data.layouts import Index, build_index, catalogue
from bgad.errors import ConfigError, DataError, FileError

MVTEC, BTAD, STRICT_BTAD = Dataset(), Dataset(layout="btad"), Dataset(layout="btad", strict=True)


def refused(root: Path, *words: object, name="own", category="bottle", dataset=MVTEC, threads=1) -> None:
    """The index cannot be built, and the error begins with the first of ``words`` and contains the others."""
    with pytest.raises(DataError, match="^" + re.escape(str(words[0]))) as error:
        build_index(name, category, root, dataset, threads)
    assert "\n" not in str(error.value) and all(str(word) in str(error.value) for word in words)


def test_index_of_mvtec_layout(tmp_path):
    folder = make_category(tmp_path, train=2, good=1, types={"cut": 2, "hole": 1})
    index = build_index("own", "bottle", tmp_path, MVTEC)
    assert [(image.path, image.part, image.type, image.mask) for image in index.images] == [
        ("train/good/000.png", "train", "good", None),
        ("train/good/001.png", "train", "good", None),
        ("test/cut/000.png", "test", "cut", "ground_truth/cut/000_mask.png"),
        ("test/cut/001.png", "test", "cut", "ground_truth/cut/001_mask.png"),
        ("test/good/000.png", "test", "good", None),
        ("test/hole/000.png", "test", "hole", "ground_truth/hole/000_mask.png"),
    ]
    assert [image.anomalous for image in index.images] == [False, False, True, True, False, True]
    for image in index.images:
        assert image.sha256 == hashlib.sha256((folder / image.path).read_bytes()).hexdigest()
    assert (index.dataset, index.category, index.has_masks, index.texture) == ("own", "bottle", True, False)


def test_index_of_btad_layout_calls_ok_good_and_finds_png_and_bmp_masks(tmp_path):
    folder = make_category(tmp_path, "01", "btad", train=1, good=1, types={"ko": 2})
    mask = mask_of(folder, "ko", 1, "btad")
    save(mask.with_suffix(".bmp"), np.asarray(Image.open(mask)))
    mask.unlink()
    write_image(folder / "test/ko/0002.bmp", "ko 2")
    write_mask(folder / "ground_truth/ko/0002.png")
    index = build_index("btad", "01", tmp_path, BTAD)
    assert [(image.path, image.type, image.mask) for image in index.images] == [
        ("train/ok/000.png", "good", None),
        ("test/ko/000.png", "ko", "ground_truth/ko/000.png"),
        ("test/ko/0002.bmp", "ko", "ground_truth/ko/0002.png"),
        ("test/ko/001.png", "ko", "ground_truth/ko/001.bmp"),
        ("test/ok/000.png", "good", None),
    ]


def test_without_ground_truth_nothing_has_a_mask(tmp_path):
    make_category(tmp_path, masks=False)
    index = build_index("own", "bottle", tmp_path, MVTEC)
    assert not index.has_masks
    assert [image.mask for image in index.images] == [None] * 12
    assert sum(image.anomalous for image in index.images) == 5


def test_other_files_and_folders_are_ignored(tmp_path):
    folder = make_category(tmp_path)
    before = build_index("own", "bottle", tmp_path, MVTEC)
    (folder / "test/cut/._000.png").write_bytes(b"what macOS leaves on other file systems")
    (folder / "test/cut/Thumbs.db").write_bytes(b"what Windows leaves")
    (folder / "test/notes.png").write_bytes(b"not in a folder of a type")
    write_image(folder / "test/.cache/000.png", "hidden")
    write_image(folder / "test/@eaDir/000.png", "what a file server leaves")
    write_image(folder / "train/good/@eaDir/000.png", "the same")
    write_image(folder / "train/cut/000.png", "an anomaly among the training images")
    (folder / "test/empty").mkdir()
    (folder / "readme.txt").touch()
    found = build_index("own", "bottle", tmp_path, MVTEC)
    assert replace(found, notes=()) == before
    assert found.notes == ("Not used: 2 files, 1 in test (.png), 1 in train/cut (.png).",)


def test_names_with_spaces_dots_capitals_and_unicode(tmp_path):
    folder = make_category(tmp_path, "Größe 5", types={"Kratzer tief": 1})
    write_image(folder / "test/Kratzer tief/bild nr. 2ä.v1.PNG", "odd name")
    write_mask(folder / "ground_truth/Kratzer tief/bild nr. 2ä.v1_mask.png")
    index = build_index("own", "Größe 5", tmp_path, MVTEC)
    assert [(image.path, image.mask) for image in index.images if image.anomalous] == [
        ("test/Kratzer tief/000.png", "ground_truth/Kratzer tief/000_mask.png"),
        ("test/Kratzer tief/bild nr. 2ä.v1.PNG", "ground_truth/Kratzer tief/bild nr. 2ä.v1_mask.png"),
    ]
    index.save(tmp_path / "index.json")
    assert Index.load(tmp_path / "index.json") == index


def test_the_order_in_which_the_file_system_lists_changes_nothing(tmp_path, monkeypatch):
    make_category(tmp_path, types={"cut": 12, "hole": 2})
    before = build_index("own", "bottle", tmp_path, MVTEC)
    scandir = os.scandir
    monkeypatch.setattr("bgad.data.files.os.scandir", lambda path: list(scandir(path))[::-1])
    assert build_index("own", "bottle", tmp_path, MVTEC) == before
    own = Dataset(path=tmp_path)
    assert list(catalogue("own", own)["bottle"].items()) == [("cut", 12), ("hole", 2)]


def test_textures_are_known_or_named(tmp_path):
    make_category(tmp_path, "carpet")
    make_category(tmp_path, "bottle")

    def texture(name, category, **settings):
        return build_index(name, category, tmp_path, Dataset(**settings)).texture

    assert texture("mvtec", "carpet")
    assert not texture("mvtec", "bottle")
    assert not texture("own", "carpet")
    assert texture("own", "carpet", textures=["carpet"])
    assert texture("mvtec", "bottle", textures=["bottle"])
    assert texture("mvtec", "carpet", textures=["bottle"])


def test_a_copy_of_a_published_data_set_is_counted(tmp_path):
    counts = presets.dataset("mvtec").counts["toothbrush"]
    make_category(tmp_path, "toothbrush", types={"defective": 30}, train=counts["train"], good=counts["good"])
    strict = Dataset(strict=True)
    assert check_copy("mvtec", "toothbrush", tmp_path, MVTEC) == (strict, ())  # a complete copy is checked strictly
    (tmp_path / "toothbrush/test/defective/007.png").unlink()
    problem = "toothbrush/test/defective has 29 images instead of 30"
    settings, notes = check_copy("mvtec", "toothbrush", tmp_path, MVTEC)
    assert settings == MVTEC and len(notes) == 1 and problem in notes[0]
    with pytest.raises(DataError, match=problem):
        check_copy("mvtec", "toothbrush", tmp_path, strict)
    for name, category, own in (("mine", "toothbrush", MVTEC), ("mvtec", "of my own", MVTEC), ("mvtec", "toothbrush", BTAD)):
        assert check_copy(name, category, tmp_path, own) == (own, ())


def test_a_download_has_to_be_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    downloaded = Path("resources/datasets/mvtec")
    make_category(downloaded, "toothbrush")
    with pytest.raises(DataError, match="toothbrush/train/good has 4 images instead of 60"):
        check_copy("mvtec", "toothbrush", downloaded, MVTEC)


@pytest.mark.parametrize("layout", ["mvtec", "btad"])
@pytest.mark.parametrize("which", ["train", "test", "mask"])
def test_a_truncated_png_is_named(tmp_path, layout, which):
    folder = make_category(tmp_path, layout=layout)
    normal = "good" if layout == "mvtec" else "ok"
    files = {"train": f"train/{normal}/002.png", "test": "test/hole/001.png"}
    path = mask_of(folder, "hole", 1, layout) if which == "mask" else folder / files[which]
    truncate(path)
    refused(tmp_path, path, "not a complete image", dataset=Dataset(layout=layout))


@pytest.mark.parametrize("content", [b"", b"<html>please log in</html>", b"\x89PNG\r\n\x1a\n", None])
def test_a_file_that_is_no_image_and_a_broken_link_are_named(tmp_path, content):
    path = make_category(tmp_path) / "test/good/x.png"
    path.symlink_to(tmp_path / "gone.png") if content is None else path.write_bytes(content)
    refused(tmp_path, path, "not a complete image")


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_of_unknown_range_are_refused(tmp_path, kind):
    path = make_category(tmp_path) / "train/good/deep.tif"
    save(path, np.full((HEIGHT, WIDTH), 4000, dtype=kind))
    refused(tmp_path, path, "8 or 16 bits")


def test_threads_change_nothing_and_the_first_of_several_bad_files_is_named(tmp_path):
    folder = make_category(tmp_path, train=60)
    assert build_index("own", "bottle", tmp_path, MVTEC, threads=3) == build_index("own", "bottle", tmp_path, MVTEC)
    for number in (59, 31, 17):
        truncate(folder / f"train/good/{number:03}.png")
    # The first one takes longer than the others to decode.
    write_image(folder / "train/good/017.png", "large", height=1000, width=1000)
    truncate(folder / "train/good/017.png", keep=0.99)
    refused(tmp_path, folder / "train/good/017.png", threads=3)


def test_a_mask_that_does_not_fit_its_image_is_named_with_it(tmp_path):
    folder, strict = make_category(tmp_path), Dataset(strict=True)
    write_mask(mask_of(folder, "hole", 0), value=0)
    refused(tmp_path, mask_of(folder, "hole", 0), folder / "test/hole/000.png", "empty", dataset=strict)
    write_mask(mask_of(folder, "cut", 2), height=HEIGHT, width=WIDTH + 4)
    refused(tmp_path, mask_of(folder, "cut", 2), folder / "test/cut/002.png", "20x12", "16x12")
    mask_of(folder, "cut", 1).unlink()
    write_mask(mask_of(folder, "cut", 2))
    refused(tmp_path, folder / "test/cut/001.png", "001_mask.png", folder / "ground_truth/cut", dataset=strict)


def btad_category(root: Path, category: str, empty: int) -> Path:
    """A category of BTAD with 12 anomalous images, the last ``empty`` of them with an empty mask."""
    folder = make_category(root, category, "btad", types={"ko": 12})
    for number in range(12 - empty, 12):
        write_mask(mask_of(folder, "ko", number, "btad"), value=0)
    return folder


@pytest.mark.parametrize(("category", "known"), [("02", 1), ("03", 10)])
def test_a_published_data_set_may_have_the_empty_masks_that_it_is_known_for(tmp_path, category, known):
    for empty in (0, 1, known):
        btad_category(tmp_path, category, empty)
        index = build_index("btad", category, tmp_path, STRICT_BTAD)
        flagged = [image.path for image in index.images if image.empty_mask]
        assert flagged == [f"test/ko/{number:03}.png" for number in range(12 - empty, 12)]
        assert all(image.mask for image in index.images if image.anomalous)
        index.save(tmp_path / "index.json")
        assert Index.load(tmp_path / "index.json") == index
    folder = btad_category(tmp_path, category, known + 1)  # the first of them is not empty any more
    refused(
        tmp_path,
        mask_of(folder, "ko", 11, "btad"),
        f"the {known} ",
        f"btad/{category}",
        name="btad",
        category=category,
        dataset=STRICT_BTAD,
    )
    for name, other in (("btad", "01"), ("own", "02"), ("mvtec", "02")):
        folder = btad_category(tmp_path, other, 1)
        refused(tmp_path, mask_of(folder, "ko", 11, "btad"), "empty", name=name, category=other, dataset=STRICT_BTAD)


def test_an_index_from_before_empty_masks_were_marked_still_loads(tmp_path):
    make_category(tmp_path)
    index = build_index("own", "bottle", tmp_path, MVTEC)
    path = tmp_path / "index.json"
    index.save(path)
    values = json.loads(path.read_text())
    assert {image.pop("empty_mask") for image in values["images"]} == {False}
    path.write_text(json.dumps(values))
    assert Index.load(path) == index


def test_the_known_empty_masks_add_up_to_what_their_source_counts():
    allowed = {name: preset.empty_masks for name, preset in presets.presets().items()}
    assert allowed == {"mvtec": {}, "btad": {"02": 1, "03": 10}}
    counts = presets.dataset("btad").counts
    # What the source of these numbers counts: 279 images with a marked region, and 290 anomalous ones.
    marked = {category: counts[category]["ko"] - allowed["btad"].get(category, 0) for category in counts}
    assert marked == {"01": 49, "02": 199, "03": 31}


@pytest.mark.parametrize(("category", "settings", "normal"), [("botle", MVTEC, "good"), ("bottle", BTAD, "ok")])
def test_no_training_images_names_the_folder_and_the_key(tmp_path, category, settings, normal):
    make_category(tmp_path)
    refused(tmp_path, tmp_path / category / "train" / normal, "datasets.own.path", category=category, dataset=settings)


EMPTY = {"dataset": "own", "category": "bottle", "texture": False, "has_masks": False, "images": []}
WRONG = [{"bit_depth": -1}, {"notes": ["\x1b[2J"]}, {"notes": ["=1+1"]}, {"notes": 5}]
WRONG_TEXTS = [json.dumps(EMPTY | wrong) for wrong in WRONG]


@pytest.mark.parametrize("text", ["[]", "{}", '{"images": [{"path": "x"}]}', '{"images": 5}', *WRONG_TEXTS])
def test_a_file_that_is_no_index_is_refused(tmp_path, text):
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(FileError, match=re.escape(f"{path}: not the index")):
        Index.load(path)


def test_catalogue_from_folders(tmp_path):
    make_category(tmp_path, "screw", types={"thread": 1, "bent": 3})
    make_category(tmp_path, "nut", types={})
    (tmp_path / "license").mkdir()
    (tmp_path / ".hidden/train/good").mkdir(parents=True)
    (tmp_path / "readme.txt").touch()
    (tmp_path / "screw/test/empty").mkdir()
    (tmp_path / "screw/test/bent/._000.png").touch()
    (tmp_path / "screw/test/bent/notes.txt").touch()
    counted = catalogue("own", Dataset(path=tmp_path))
    assert list(counted.items()) == [("nut", {}), ("screw", {"bent": 3, "thread": 1})]
    assert list(counted["screw"]) == ["bent", "thread"]


def test_catalogue_from_folders_in_btad_layout(tmp_path):
    make_category(tmp_path, "01", "btad", types={"ko": 2})
    assert catalogue("btad", Dataset(path=tmp_path, layout="btad")) == {"01": {"ko": 2}}


def test_catalogue_of_what_can_be_downloaded_or_made():
    mvtec = catalogue("mvtec", MVTEC)
    assert len(mvtec) == 15
    assert list(mvtec["bottle"].items()) == [("broken_large", 20), ("broken_small", 22), ("contamination", 21)]
    assert mvtec["toothbrush"] == {"defective": 30}
    assert catalogue("btad", BTAD) == {"01": {"ko": 49}, "02": {"ko": 200}, "03": {"ko": 41}}
    assert {category: tuple(types) for category, types in catalogue("mini", MVTEC).items()} == mini.CATEGORIES


def test_mini_has_as_many_images_as_its_catalogue_says(tmp_path, monkeypatch):
    assert catalogue("mini", MVTEC)["gravel"] == {"foreign": 16, "scratch": 16, "smear": 16}
    monkeypatch.setattr(mini, "COUNTS", {("train", "good"): 1, ("test", "good"): 1, ("test", "defect"): 2})
    mini.generate(tmp_path, "gravel")
    assert catalogue("mini", MVTEC)["gravel"] == catalogue("mini", Dataset(path=tmp_path))["gravel"]


def test_catalogue_names_the_key_of_a_wrong_path(tmp_path):
    inside = make_category(tmp_path)
    wrong = {tmp_path / "nowhere": "not a folder", inside: "train/good", tmp_path: "train/ok"}
    for path, why in wrong.items():
        with pytest.raises(ConfigError, match=rf"datasets\.own\.path is {re.escape(str(path))}, .*{why}"):
            catalogue("own", Dataset(path=path, layout="btad" if why == "train/ok" else "mvtec"))
    with pytest.raises(ConfigError, match=r"set datasets\.own\.path"):
        catalogue("own", MVTEC)


def test_a_category_answers_only_for_itself(tmp_path):
    make_category(tmp_path, "bolt", types={"cut": 2})
    make_category(tmp_path, "nut", types={"a\\b": 2})
    make_category(tmp_path, "-k")
    categories = catalogue("own", Dataset(path=tmp_path))
    assert "nut" in categories and categories["bolt"] == {"cut": 2}
    with pytest.raises(DataError, match=r"nut/test/a\\b"):
        categories["nut"]
    with pytest.raises(DataError, match="-k: "):
        list(categories)
