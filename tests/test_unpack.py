"""Archives: what is unpacked, and the tricks, bombs and damage that are refused with nothing left behind."""

import copy
import io
import struct
import tarfile
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from bgad.data.download.unpack import unpack
from bgad.errors import DataError, FileError

BODY = np.random.default_rng(0).bytes(100_000)
FILES = {"bottle/train/good/000.png": b"one", "bottle/test/good/000.png": b"two", "cable/train/good/000.png": b"three"}


def make(path: Path, files: dict[str, bytes], members: list[tarfile.TarInfo] = (), method=zipfile.ZIP_DEFLATED) -> Path:
    """An archive of the kind that the path's ending names; ``members`` of a tar have no content."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as file:
            for name, content in files.items():
                file.writestr(name, content)
        return path
    with tarfile.open(path, {".xz": "w:xz", ".gz": "w:gz"}.get(path.suffix, "w")) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return path


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refused(archive: Path, *words: str, kind=DataError, **limits) -> None:
    """Unpacking ends in one line that names the archive, and leaves nothing."""
    before = {path.name for path in archive.parent.iterdir()}
    with pytest.raises(kind) as error:
        unpack(archive, archive.parent / "out", **limits)
    assert "\n" not in str(error.value) and archive.name in str(error.value)
    assert all(word in str(error.value) for word in words), error.value
    assert {path.name for path in archive.parent.iterdir()} == before


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz", ".zip"])
@pytest.mark.parametrize("around", ["", "BTech_Dataset_transformed/"])
def test_unpack_gives_the_categories(tmp_path, ending, around):
    archive = make(tmp_path / f"x{ending}", {around + name: content for name, content in FILES.items()})
    unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", archive.name]


def test_the_archive_of_one_category_keeps_its_folder(tmp_path):
    unpack(make(tmp_path / "x.tar.xz", {"bottle/train/good/000.png": b"one"}), tmp_path / "out")
    assert tree(tmp_path / "out") == {"bottle/train/good/000.png": b"one"}


def pointing(member: tarfile.TarInfo, to: str) -> tarfile.TarInfo:
    changed = copy.copy(member)
    changed.linkname = to
    return changed


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize("ending", [".tar", ".zip"])
@pytest.mark.parametrize("name", ["../evil", "bottle/../../evil", "/evil", "{tmp}/evil", "..\\evil", "C:/evil"])
def test_names_that_lead_out_are_refused(tmp_path, ending, name):
    files = {"bottle/train/good/000.png": b"one", name.replace("{tmp}", str(tmp_path)): b"x"}
    refused(make(tmp_path / f"x{ending}", files), "outside its folder")


MEMBERS = {
    "symlink outside": [link("out", "../..")],
    "absolute symlink": [link("out", "{tmp}")],
    "symlink, then through it": [link("out", "{tmp}"), tarfile.TarInfo("out/evil")],
    "hard link outside": [link("secret", "../secret", tarfile.LNKTYPE)],
    "absolute hard link": [link("secret", "{tmp}/secret", tarfile.LNKTYPE)],
    "device": [link("null", "", tarfile.CHRTYPE)],
    "pipe": [link("pipe", "", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("trick", MEMBERS)
def test_links_that_lead_out_and_devices_are_refused(tmp_path, trick):
    (tmp_path / "secret").write_text("secret")
    members = [pointing(member, member.linkname.replace("{tmp}", str(tmp_path))) for member in MEMBERS[trick]]
    refused(make(tmp_path / "x.tar", {"bottle/train/good/000.png": b"one"}, members), "outside its folder")


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("out")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(info, "/etc")
    refused(tmp_path / "x.zip", "'out'", "outside its folder")


def test_links_that_stay_inside_are_fine(tmp_path):
    members = [link("bottle/same.png", "bottle/train/a.png", tarfile.LNKTYPE), link("bottle/soft.png", "train/a.png")]
    unpack(make(tmp_path / "x.tar", {"bottle/train/a.png": b"one"}, members), tmp_path / "out")
    assert (tmp_path / "out/bottle/same.png").read_bytes() == (tmp_path / "out/bottle/soft.png").read_bytes() == b"one"


# --- bombs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".tar", ".zip"])
def test_too_many_files_or_bytes_are_refused(tmp_path, ending):
    archive = make(tmp_path / f"x{ending}", {f"bottle/train/{i}.png": b"12345" for i in range(10)})
    refused(archive, "9 entries", max_files=9)
    refused(archive, "49 bytes", max_bytes=49)
    unpack(archive, tmp_path / "out", max_files=10, max_bytes=50)
    assert len(tree(tmp_path / "out")) == 10


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_a_small_archive_does_not_grow_a_hundredfold(tmp_path, ending, monkeypatch):
    monkeypatch.setattr("bgad.data.download.unpack.GROWS_FREELY", 10**6)
    refused(make(tmp_path / f"x{ending}", {"a/train/x.png": bytes(2 * 10**6)}), "1 MB")


def head(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


BOMBS = {
    "an endless head": head("x", tarfile.XHDTYPE, 10**9) + bytes(10**8),
    "an endless name": head("x", tarfile.GNUTYPE_LONGNAME, 10**9) + bytes(10**8),
    "names of names": head("x", tarfile.GNUTYPE_LONGNAME, 0) * 2000,
    "a negative size": head("x", tarfile.REGTYPE, -(10**9)) + bytes(1024),
    "a damaged head": head("x", tarfile.REGTYPE, 0) + head("y", tarfile.REGTYPE, 0).replace(b"y", b"z", 1) + bytes(1024),
    "a hard link to nothing": head("x", tarfile.LNKTYPE, 0) + bytes(1024),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_tars_that_fill_the_memory_or_are_damaged_within(tmp_path, bomb):
    packer = zlib.compressobj(1, wbits=31)
    (tmp_path / "x.tar.gz").write_bytes(packer.compress(BOMBS[bomb]) + packer.flush())
    refused(tmp_path / "x.tar.gz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_methods_that_unpack_without_bounds_are_refused(tmp_path, method):
    refused(make(tmp_path / "x.zip", {"bottle/train/good/0.png": bytes(10**7)}, method=method), "deflate")


def test_a_zip_that_lies_about_sizes_is_refused(tmp_path):
    lying = bytearray(make(tmp_path / "x.zip", {"a/train/x.png": bytes(10**6)}).read_bytes())
    struct.pack_into("<I", lying, lying.index(b"PK\x01\x02") + 24, 10)  # its directory says ten bytes
    (tmp_path / "x.zip").write_bytes(lying)
    refused(tmp_path / "x.zip", "cannot be unpacked", max_bytes=1000)


# --- damage, space, what is there ----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz", ".zip"])
@pytest.mark.parametrize("damage", ["cut", "no archive", "empty", "a flipped bit"])
def test_a_damaged_archive_leaves_nothing(tmp_path, ending, damage):
    if (ending, damage) == (".tar", "a flipped bit"):
        pytest.skip("a tar has no checksum of its content")
    archive = make(tmp_path / f"x{ending}", {"bottle/train/a.png": BODY})
    content = archive.read_bytes()
    flipped = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
    contents = {"cut": content[: len(content) // 2], "no archive": b"<html>" * 1000, "empty": b"", "a flipped bit": flipped}
    archive.write_bytes(contents[damage])
    refused(archive, "cannot be unpacked")


def test_unpack_checks_the_space_and_never_mixes_into_a_folder(tmp_path, monkeypatch):
    archive = make(tmp_path / "x.zip", {"bottle/train/a.png": b"0" * 300_000})  # packed, it is far smaller
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: namedtuple("Usage", "free")(299_999))
        refused(archive, "300 kB", kind=FileError)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    refused(archive, "not empty")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
