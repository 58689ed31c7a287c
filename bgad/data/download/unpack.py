"""Unpack an archive of images: all of it or nothing, and never outside its folder. The one guard for archives."""

import bz2
import errno
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from bgad.config.paths import leads_out
from bgad.data.download.fetch import check_space, readable_size
from bgad.errors import BgadError, DataError, FileError

MAX_FILES, MAX_BYTES = 200_000, 50 * 10**9  # about ten times what MVTec AD unpacks to: more is an archive bomb
# Images hardly compress: a small archive that grows this many times, and beyond this size, is a bomb as well.
MAX_GROWTH, GROWS_FREELY = 100, 10**9
# Drops owners and odd modes. Python before 3.11.4, which Debian 12 has, knows no filter; there a file gets no attributes.
PLAIN: dict = {"filter": "data"} if hasattr(tarfile, "data_filter") else {"set_attrs": False}
HEAD = 1 << 16  # bytes before a tar's member: enough for names of any length, and tarfile reads them into memory
COMPRESSED: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


class Entry(NamedTuple):
    """A file, folder or link in an archive, before it is unpacked."""

    name: str
    link: str | None  # the target of a link
    size: int
    allowed: bool  # by its kind
    extract: Callable[[Path], object]


def unpack(archive: Path, target: Path, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
    """Unpacks a .tar, .tar.gz, .tar.xz or .zip as ``target/<category>/...``, without a single folder around the categories.

    Or else nothing is left behind: FileError if the disk is too small; DataError if ``target`` is not empty, if the archive is
    damaged, or if it holds what no data set needs: paths or links that lead out of ``target``, devices, unprintable names, more
    than ``max_files`` entries or ``max_bytes`` bytes, or many times the archive's own size.
    """
    if target.exists() and any(target.iterdir()):
        raise DataError(f"{target}: not empty; delete it to have {archive} unpacked there.")
    work = target.with_name(target.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    entries, least = (_in_zip, _bytes_in_zip) if archive.suffix == ".zip" else (_in_tar, _length)
    total = 0
    try:
        check_space(work, least(archive), f"Unpacking {archive.name}")
        max_bytes = min(max_bytes, max(MAX_GROWTH * _length(archive), GROWS_FREELY))
        for count, entry in enumerate(entries(archive), 1):
            total += entry.size
            if count > max_files or total > max_bytes:
                limit = f"{max_files} entries or {readable_size(max_bytes)}"
                raise DataError(f"{archive}: holds more than {limit}, too much for a data set; get it from elsewhere.")
            _check(archive, entry)
            entry.extract(work)
        _with_categories(work).replace(target)
    except BgadError:
        raise
    except Exception as error:  # of many kinds, depending on the damage
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise FileError(f"Unpacking {archive.name} filled the disk of {target.parent}; make room there.") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise DataError(f"{archive}: cannot be unpacked ({reason}); delete it to download it again.") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check(archive: Path, entry: Entry) -> None:
    what = ascii(entry.name) if entry.link is None else f"{entry.name!a}, a link to {entry.link!a}"
    if not entry.allowed or leads_out(entry.name) or (entry.link is not None and leads_out(entry.link)):
        raise DataError(f"{archive}: holds {what}, which may reach outside its folder; get it from elsewhere.")
    if not f"{entry.name}{entry.link}".isprintable():
        raise DataError(f"{archive}: holds {what}, an unprintable name; get it from elsewhere.")


def _in_tar(archive: Path) -> Iterator[Entry]:
    with archive.open("rb") as file:
        start = file.read(6)
    opened = next((opened for magic, opened in COMPRESSED.items() if start.startswith(magic)), open)
    with opened(archive, "rb") as file, tarfile.open(fileobj=(metered := _Metered(file)), mode="r:") as tar:
        while (member := tar.next()) is not None:
            if member.size < 0:
                raise tarfile.ReadError("a negative size")
            metered.left = member.size + HEAD  # for this member and the head of the next one
            link = member.linkname if member.islnk() or member.issym() else None
            allowed = link is not None or member.isreg() or member.isdir()
            yield Entry(member.name, link, member.size, allowed, partial(tar.extract, member, **PLAIN))
            metered.left = HEAD
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps all of them, with their heads
            tar.pax_headers = {}
        # Read to the end: only there an .xz or .gz proves complete, and a damaged head looks like the end to tarfile.
        if (metered.last + file.read(1 << 20)).strip(b"\0"):
            raise tarfile.ReadError("a damaged head")


class _Metered:
    """An open file that gives at most ``left`` more bytes; ``last`` holds those of the last read."""

    def __init__(self, file: IO[bytes]):
        self.file, self.left, self.last = file, HEAD, b""

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError("an endless head")
        self.last = self.file.read(size)
        return self.last

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def _in_zip(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0: packed on a system without Unix modes
            # With other methods, zipfile unpacks 64 KB of input to any size at once.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{archive}: compressed with method {info.compress_type}; pack it with deflate.")
            yield Entry(
                info.filename, None, info.file_size, kind in (0, stat.S_IFREG, stat.S_IFDIR), partial(file.extract, info)
            )


def _bytes_in_zip(archive: Path) -> int:
    with zipfile.ZipFile(archive) as file:
        return sum(info.file_size for info in file.infolist())


def _length(archive: Path) -> int:
    return archive.stat().st_size  # a tar does not say what it unpacks to, but images hardly compress


def _with_categories(folder: Path) -> Path:
    """``folder``, or the only folder in it if that has the categories (known by their ``train``)."""
    inner = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name != "__MACOSX"]
    return inner[0] if len(inner) == 1 and any(inner[0].glob("*/train")) else folder
