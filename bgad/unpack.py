"""Unpack an archive of images: all of it or nothing, and never outside the folder it was meant for."""

import errno
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bgad.errors import BgadError
from bgad.fetch import check_space, readable_size

MAX_FILES, MAX_BYTES = 200_000, 50 * 10**9  # about ten times what MVTec AD unpacks to: more is an archive bomb
DAMAGE: tuple[type[Exception], ...] = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError)
DAMAGE += (RuntimeError, ValueError, LookupError)  # encrypted or unknown compression; odd names; links to nothing

# What an archive holds: name, link target, bytes, whether it is a kind that may be unpacked, how to unpack it.
Entry = tuple[str, str | None, int, bool, Callable[[Path], object]]


def unpack(archive: Path, target: Path, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
    """Unpack a .tar, .tar.gz, .tar.xz or .zip as ``target/<category>/...``.

    A single folder around the categories is dropped. Raises BgadError, with nothing left behind, where ``target`` is
    not empty, the disk is too small, the archive is damaged, or where it holds what no data set needs: paths or links
    that lead out of ``target``, devices, more than ``max_files`` entries or ``max_bytes`` bytes.
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
        for count, (name, link, size, allowed, extract) in enumerate(entries(archive), 1):
            total += size
            if count > max_files or total > max_bytes:
                limit = f"{max_files} entries or {readable_size(max_bytes)}"
                raise BgadError(f"{archive} holds more than {limit}, too much for a data set: get it from elsewhere")
            if not allowed or _leads_out(name) or (link is not None and _leads_out(link)):
                what = repr(name) if link is None else f"{name!r}, a link to {link!r}"
                raise BgadError(f"{archive} holds {what}, which may reach outside its folder: get it from elsewhere")
            extract(work)
        _with_categories(work).replace(target)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise BgadError(f"Unpacking {archive.name} filled the disk of {target.parent}: make room there") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise BgadError(f"{archive} cannot be unpacked ({reason}): delete it to have it downloaded anew") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _in_tar(archive: Path) -> Iterator[Entry]:
    with tarfile.open(archive) as tar:
        for member in tar:
            link = member.linkname if member.islnk() or member.issym() else None
            allowed = link is not None or member.isreg() or member.isdir()
            # the filter drops owners and odd modes, and checks paths a second time
            yield member.name, link, member.size, allowed, partial(tar.extract, member, filter="data")
        tar.fileobj.read(1 << 20)  # past the last member: only at its end does an .xz or .gz prove whole


def _in_zip(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            allowed = kind in (0, stat.S_IFREG, stat.S_IFDIR)  # 0: packed where there are no Unix modes
            yield info.filename, None, info.file_size, allowed, partial(file.extract, info)


def _leads_out(path: str) -> bool:
    """Whether a name or link target is absolute or goes up. Where none does, no chain of links can lead out either."""
    return path.startswith(("/", "\\")) or bool(re.match("[A-Za-z]:", path)) or ".." in re.split(r"[/\\]", path)


def _bytes_in_zip(archive: Path) -> int:
    with zipfile.ZipFile(archive) as file:
        return sum(info.file_size for info in file.infolist())


def _length(archive: Path) -> int:
    return archive.stat().st_size  # a tar does not say what it unpacks to, but images hardly compress


def _with_categories(folder: Path) -> Path:
    """``folder``, or the one folder in it that has the categories (known by their ``train``) in it."""
    inner = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name != "__MACOSX"]
    return inner[0] if len(inner) == 1 and any(inner[0].glob("*/train")) else folder
