"""Unpack an archive of images: all of it or nothing, and never outside the folder it was meant for."""

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
from typing import IO

from bgad.config.paths import leads_out
from bgad.data.download.fetch import check_space, readable_size
from bgad.errors import BgadError

MAX_FILES, MAX_BYTES = 200_000, 50 * 10**9  # about ten times what MVTec AD unpacks to: more is an archive bomb
# Images hardly compress. A small archive that makes so many times its size, and more than that, is a bomb as well.
MAX_GROWTH, GROWS_FREELY = 100, 10**9
HEAD = 1 << 16  # bytes before a tar's member: names of all lengths take less, and tarfile reads them into memory
COMPRESSED: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}

# What an archive holds: name, link target, bytes, whether it is a kind that may be unpacked, how to unpack it.
Entry = tuple[str, str | None, int, bool, Callable[[Path], object]]


def unpack(archive: Path, target: Path, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
    """Unpack a .tar, .tar.gz, .tar.xz or .zip as ``target/<category>/...``.

    A single folder around the categories is dropped. Raises BgadError, with nothing left behind, where ``target`` is
    not empty, the disk is too small, the archive is damaged, or where it holds what no data set needs: paths or links
    that lead out of ``target``, devices, names that cannot be shown, more than ``max_files`` entries or ``max_bytes`` bytes,
    or many times the archive's own.
    """
    if target.exists() and any(target.iterdir()):
        raise BgadError(f"{target} is not empty: delete it to have {archive} unpacked there")
    work = target.with_name(target.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    entries, least = (_in_zip, _bytes_in_zip) if archive.suffix == ".zip" else (_in_tar, _length)
    total = 0
    try:
        check_space(work, least(archive), f"Unpacking {archive.name}")
        max_bytes = min(max_bytes, max(MAX_GROWTH * _length(archive), GROWS_FREELY))
        for count, (name, link, size, allowed, extract) in enumerate(entries(archive), 1):
            total += size
            if count > max_files or total > max_bytes:
                limit = f"{max_files} entries or {readable_size(max_bytes)}"
                raise BgadError(f"{archive} holds more than {limit}, too much for a data set: get it from elsewhere")
            what = ascii(name) if link is None else f"{name!a}, a link to {link!a}"
            if not allowed or leads_out(name) or (link is not None and leads_out(link)):
                raise BgadError(f"{archive} holds {what}, which may reach outside its folder: get it from elsewhere")
            if not f"{name}{link}".isprintable():
                raise BgadError(f"{archive} holds {what}, a name with signs that cannot be shown: get it from elsewhere")
            extract(work)
        _with_categories(work).replace(target)
    except BgadError:
        raise
    except Exception as error:  # of many kinds, by what is damaged; all mean the same
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise BgadError(f"Unpacking {archive.name} filled the disk of {target.parent}: make room there") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise BgadError(f"{archive} cannot be unpacked ({reason}): delete it to have it downloaded anew") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _in_tar(archive: Path) -> Iterator[Entry]:
    with archive.open("rb") as file:
        start = file.read(6)
    opened = next((opened for magic, opened in COMPRESSED.items() if start.startswith(magic)), open)
    with opened(archive, "rb") as file, tarfile.open(fileobj=(metered := _Metered(file)), mode="r:") as tar:
        while (member := tar.next()) is not None:
            if member.size < 0:
                raise tarfile.ReadError("a negative size")
            metered.left = member.size + HEAD  # what unpacking it, and the head of the next one, may take
            link = member.linkname if member.islnk() or member.issym() else None
            allowed = link is not None or member.isreg() or member.isdir()
            # the filter drops owners and odd modes, and checks paths a second time
            yield member.name, link, member.size, allowed, partial(tar.extract, member, filter="data")
            metered.left = HEAD
            tar.members = []  # type: ignore[attr-defined]  # of which tarfile keeps all, with their heads
            tar.pax_headers = {}
        # To the end, where alone an .xz or .gz proves whole. At a damaged head tarfile ends as if there were no more.
        if (metered.last + file.read(1 << 20)).strip(b"\0"):
            raise tarfile.ReadError("a damaged head")


class _Metered:
    """An open file of which no more than ``left`` bytes are read; ``last`` are those of the last time."""

    def __init__(self, file: IO[bytes]):
        self.file, self.left, self.last = file, HEAD, b""

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError("a head without end")
        self.last = self.file.read(size)
        return self.last

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def _in_zip(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            # 0: packed where there are no Unix modes. Of the other ways to pack, zipfile unpacks 64 KB to no end at once.
            allowed = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BgadError(f"{archive} is packed in an unusual way (method {info.compress_type}): pack it with deflate")
            yield info.filename, None, info.file_size, allowed, partial(file.extract, info)


def _bytes_in_zip(archive: Path) -> int:
    with zipfile.ZipFile(archive) as file:
        return sum(info.file_size for info in file.infolist())


def _length(archive: Path) -> int:
    return archive.stat().st_size  # a tar does not say what it unpacks to, but images hardly compress


def _with_categories(folder: Path) -> Path:
    """``folder``, or the one folder in it that has the categories (known by their ``train``) in it."""
    inner = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name != "__MACOSX"]
    return inner[0] if len(inner) == 1 and any(inner[0].glob("*/train")) else folder
