"""The content of a folder decides: not its place, its dates, or what a copy of it was called."""

import os
import shutil

import pytest
from folders import make_category, write_image, write_mask

from bgad.data.content import content_sha256, recorded_folder
from bgad.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return make_category(tmp_path / "data", "bolt")


def test_dates_and_places_do_not_count_and_content_does(folder, tmp_path):
    record = tmp_path / "record.json"
    before = content_sha256(folder, record)
    image = folder / "test/cut/000.png"
    os.utime(image, (2**32, 2**32))  # in the future
    moved = folder.rename(tmp_path / "moved")
    assert content_sha256(moved, record) == before == content_sha256(moved)
    assert recorded_folder(record) == moved
    times = (moved / "test/cut/000.png").stat().st_atime_ns, 10**18  # older than the other
    for change in (
        lambda: write_image(moved / "test/cut/000.png", "another"),
        lambda: write_mask(moved / "ground_truth/cut/000_mask.png", value=3),
        lambda: (moved / "test/cut/002.png").rename(moved / "test/cut/003.png"),
        lambda: (moved / "test/cut/004.png").symlink_to("nowhere"),
    ):
        change()
        os.utime(moved / "test/cut/000.png", ns=times)
        assert content_sha256(moved, record) not in (before, None)
        before = content_sha256(moved, record)
        assert before == content_sha256(moved)


def test_only_changed_files_are_read_again(folder, tmp_path, monkeypatch):
    record, read = tmp_path / "record.json", []
    before = content_sha256(folder, record)
    monkeypatch.setattr("bgad.data.content._sha256", lambda path: read.append(path.name) or "0")
    assert content_sha256(folder, record) == before and read == []
    write_image(folder / "train/good/001.png", "another")
    content_sha256(folder, record)
    assert read == ["001.png"]
    for damage in ("{", '{"folder": "/x", "files": {"train/good/001.png": ["1"]}}'):
        record.write_text(damage)
        read.clear()
        content_sha256(folder, record)
        assert len(read) == len(list(folder.rglob("*.png")))


def test_what_is_odd_has_a_hash_too(folder, tmp_path):
    shutil.rmtree(folder / "ground_truth")
    before = content_sha256(folder)
    (folder / "train/.hidden").touch()
    (folder / "test/cut/@eaDir").mkdir()
    (folder / "test/cut/@eaDir/000.png").touch()
    assert content_sha256(folder) == before
    (folder / "train/good/circle").symlink_to(folder / "train")
    (folder / "train/good/<b>{k}\udcff.png").touch()
    os.mkfifo(folder / "train/good/pipe.png")
    assert content_sha256(folder, tmp_path / "r") == content_sha256(folder, tmp_path / "r") != before


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("cut"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"test/cut: .*Permission denied"):
        content_sha256(folder)
