"""Known data sets: their counts and presets, and the way from archives on a server to folders."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Server, serving
from test_unpack import make, tree

from bgad.data.download import dataset as download
from bgad.data.download import presets
from bgad.data.download.dataset import check_counts, download_dataset
from bgad.data.download.fetch import DownloadError
from bgad.data.download.presets import Preset
from bgad.errors import DataError, FileError


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


COUNTS = {"bottle": {"train": 2, "good": 1, "crack": 2}, "cable": {"train": 1, "good": 1, "bent": 1}}


def image_files(counts: dict, normal: str = "good") -> dict[str, bytes]:
    files = {}
    for category, numbers in counts.items():
        for key, number in numbers.items():
            folders = {"train": [f"train/{normal}"], "good": [f"test/{normal}"]}.get(key)
            for folder in folders or [f"test/{key}", f"ground_truth/{key}"]:
                mask = "_mask" if folder.startswith("ground") and normal == "good" else ""
                for i in range(number):
                    files[f"{category}/{folder}/{i:03}{mask}.png"] = f"{category} {folder} {i}".encode()
    return files


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_check_counts_names_every_difference(tmp_path):
    write(tmp_path, image_files(COUNTS))
    assert check_counts(tmp_path, COUNTS) == []
    write(tmp_path / "bottle", {"train/good/Thumbs.db": b"", "train/good/.000.png": b""})  # no images
    assert check_counts(tmp_path, COUNTS) == []

    (tmp_path / "bottle/train/good/000.png").unlink()
    (tmp_path / "bottle/ground_truth/crack/001_mask.png").unlink()
    write(tmp_path, {"bottle/test/good/x.PNG": b"", "bottle/test/scratch/0.png": b""})
    (tmp_path / "cable/test/bent/000.png").unlink()
    (tmp_path / "cable/test/bent").rmdir()
    more = COUNTS | {"wood": {"train": 1, "good": 1}}
    assert check_counts(tmp_path, more) == [
        "bottle/train/good has 1 images instead of 2",
        "bottle/test/good has 2 images instead of 1",
        "bottle/ground_truth/crack has 1 masks instead of 2",
        "bottle/test/scratch should not be there",
        "cable/test/bent is missing",
        "wood is missing",
    ]


def test_check_counts_in_the_btad_layout(tmp_path):
    counts = {"01": {"train": 2, "good": 1, "ko": 3}}
    write(tmp_path, image_files(counts, normal="ok"))
    assert check_counts(tmp_path, counts, "btad") == []
    (tmp_path / "01/test/ko/002.png").unlink()
    assert check_counts(tmp_path, counts, "btad") == ["01/test/ko has 2 images instead of 3"]


def test_presets_add_up_to_the_published_totals():
    def totals(preset: Preset) -> list[int]:
        rows = preset.counts.values()
        train, good = (sum(row[key] for row in rows) for key in ("train", "good"))
        return [train, good, sum(sum(row.values()) for row in rows) - train - good]

    mvtec, btad = presets.dataset("mvtec"), presets.dataset("btad")
    assert totals(mvtec) == [3629, 467, 1258]  # Bergmann et al., table 1: 5354 images, 73 defect types
    assert sum(len(row) - 2 for row in mvtec.counts.values()) == 73
    assert totals(btad) == [1799, 451, 290]
    assert mvtec.counts.keys() == mvtec.category_urls.keys() and len(mvtec.counts) == 15
    assert mvtec.textures | mvtec.grayscale < mvtec.counts.keys()
    for category, url in mvtec.category_urls.items():
        assert url.startswith("https://") and url.endswith(f"/{category}.tar.xz")
    assert all(len(bytes.fromhex(preset.sha256)) == 32 for preset in (mvtec, btad))
    assert presets.dataset("mine") is None


# --- data sets -----------------------------------------------------------------------------------------------


@pytest.fixture
def known(server, tmp_path, monkeypatch) -> Preset:
    """A data set "mvtec" of two categories on the server, as a whole and by category."""
    files = image_files(COUNTS)
    whole = make(tmp_path / "whole.tar.xz", files).read_bytes()
    server.files = {"/mvtec.tar.xz": whole}
    for category in COUNTS:
        own = {name: content for name, content in files.items() if name.startswith(category)}
        server.files[f"/{category}.tar.xz"] = make(tmp_path / "one.tar.xz", own).read_bytes()
    preset = Preset(
        layout="mvtec",
        licence="licensed under X",
        landing_page="http://landing",
        urls=[server.url("/mvtec.tar.xz")],
        sha256=hashlib.sha256(whole).hexdigest(),
        size_bytes=len(whole),
        category_urls={category: server.url(f"/{category}.tar.xz") for category in COUNTS},
        grayscale=[],
        textures=[],
        counts=COUNTS,
    )
    monkeypatch.setattr(download, "dataset", {"mvtec": preset}.get)
    return preset


def test_download_dataset(server, known, tmp_path, capsys):
    root, archives = tmp_path / "data" / "mvtec", tmp_path / "archives"
    write(root.parent, {"mvtec.staging/wood/train/good/000.png": b"left by a run that was killed"})
    download_dataset("mvtec", root, archives)
    assert tree(root) == image_files(COUNTS)
    assert [path.name for path in archives.iterdir()] == ["mvtec.tar.xz"]
    assert [path.name for path in root.parent.iterdir()] == ["mvtec"]
    assert capsys.readouterr().err == "licensed under X (http://landing).\n"

    download_dataset("mvtec", root, archives)  # all is there
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=rf"^{root}: .*bottle/train/good has 0 images .* and 5 more\).*datasets.mvtec.path"):
        download_dataset("mvtec", root, archives)
    root.rename(tmp_path / "away")
    root.mkdir()
    download_dataset("mvtec", root, archives)  # from the archive that is there
    assert tree(root) == image_files(COUNTS)
    assert len(server.seen) == 1
    assert capsys.readouterr().err == ""


def test_the_archives_of_the_categories_replace_the_whole_one(server, known, tmp_path, capsys):
    root, archives = tmp_path / "mvtec", tmp_path / "archives"
    server.faults["/mvtec.tar.xz"] = [404]
    download_dataset("mvtec", root, archives, wait=0.01)
    assert tree(root) == image_files(COUNTS)
    assert [request.path for request in server.seen] == ["/mvtec.tar.xz", "/bottle.tar.xz", "/cable.tar.xz"]
    assert capsys.readouterr().err.count("licensed under X") == 1
    bottle = server.files["/bottle.tar.xz"]
    record = f"{hashlib.sha256(bottle).hexdigest()}  bottle.tar.xz\n"
    assert (archives / "bottle.sha256").read_text() == record

    root.rename(tmp_path / "away")
    download_dataset("mvtec", root, archives, wait=0.01)  # the archives that are there do: nothing is asked for
    assert tree(root) == image_files(COUNTS) and len(server.seen) == 3

    root.rename(tmp_path / "away too")
    (archives / "bottle.tar.xz").write_bytes(bottle + b"tampered")
    with pytest.raises(FileError, match=r"bottle.tar.xz: has the SHA-256"):
        download_dataset("mvtec", root, archives, wait=0.01)
    assert not root.exists()


def test_a_category_that_proves_bad_is_not_recorded(server, known, tmp_path):
    root, archives = tmp_path / "mvtec", tmp_path / "archives"
    server.faults["/mvtec.tar.xz"] = [404]
    good = server.files["/cable.tar.xz"]
    server.files["/cable.tar.xz"] = good[:-40]
    with pytest.raises(DataError, match=r"cable\.tar\.xz: cannot be unpacked"):
        download_dataset("mvtec", root, archives, wait=0.01)
    assert sorted(path.name for path in archives.iterdir()) == ["bottle.tar.xz", "cable.tar.xz"]
    assert not list(tmp_path.glob("mvtec*"))


def test_when_nothing_works_every_address_is_named(server, known, tmp_path):
    server.faults = {"/mvtec.tar.xz": [404], "/bottle.tar.xz": ["ok"], "/cable.tar.xz": [403]}
    with pytest.raises(DownloadError) as error:
        download_dataset("mvtec", tmp_path / "mvtec", tmp_path / "archives", wait=0.01)
    for words in (server.url("/mvtec.tar.xz"), server.url("/cable.tar.xz"), "403", "set datasets.mvtec.path to a copy"):
        assert words in str(error.value)
    assert not (tmp_path / "mvtec").exists()


def test_an_archive_that_lacks_images_makes_no_data_set(server, known, tmp_path, monkeypatch):
    more = known.model_copy(update={"counts": COUNTS | {"wood": {"train": 1, "good": 1}}})
    monkeypatch.setattr(download, "dataset", {"mvtec": more}.get)
    with pytest.raises(DataError, match=r"mvtec.tar.xz .*wood is missing.*datasets.mvtec.path"):
        download_dataset("mvtec", tmp_path / "mvtec", tmp_path / "archives")
    assert not list(tmp_path.glob("mvtec*"))


def test_your_own_data_set_has_no_download(tmp_path):
    with pytest.raises(DataError, match=r"'mine'.*datasets.mine.path"):
        download_dataset("mine", tmp_path / "mine", tmp_path / "archives")
