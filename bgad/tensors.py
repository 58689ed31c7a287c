"""torch.save files that may come from anyone: only tensors and plain values, no code, and no more memory than the file has.

All weights, models and checkpoints are read here.
"""

import io
import mmap
import os
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor

from bgad.io import opened, whole
from bgad.memory import is_out_of_memory

MODULES = ("torch", "collections")  # that a pickle may name; PyTorch also allows bytearray, which can take any amount of memory
ARCHIVE = b"PK\3\4"  # an archive's first bytes, by which torch.load tells it from the older format
OLD_PICKLES = 5  # at the beginning of the older format, before the tensors' bytes
PLAIN = (str, int, float, bool, type(None))


def save_tensors(path: Path, content: Any) -> None:
    """Writes ``content``, tensors and plain values; FileError if it cannot be written."""
    # Through memory: torch writes the name of the (temporary) file into it, which would differ between runs.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with whole(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_tensors(path: Path, device: torch.device) -> Any:
    """The content of a file of ``save_tensors``, on ``device``.

    FileNotFoundError if there is none; ValueError with the reason if it is another kind of file, damaged, or has more than
    tensors and plain values in dicts, lists and tuples.
    """
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if not _is_archive(file):
                raise ValueError("it is not an archive")
            _check_archive(file, size, sums=True)
            file.seek(0)
            content = torch.load(file, map_location=device, weights_only=True)
        _check_values(content, size)
    except (ValueError, FileNotFoundError):
        raise
    except Exception as error:  # of many kinds, depending on the damage
        if is_out_of_memory(error):
            raise
        raise ValueError(type(error).__name__) from error
    return content


def check_file(path: Path) -> None:
    """An error (its kind depends on the damage) unless the file is as torch.save writes it and names only tensors and dicts.

    The format before PyTorch 1.6 is allowed, since many published weights have it.
    """
    with opened(path) as file:
        if _is_archive(file):
            _check_archive(file, os.fstat(file.fileno()).st_size)
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # reads no more than there is
            for _ in range(OLD_PICKLES):
                _check_pickle(cast(IO[bytes], content))


def _is_archive(file: BinaryIO) -> bool:
    return file.read(len(ARCHIVE)) == ARCHIVE


def _check_archive(file: BinaryIO, size: int, sums: bool = False) -> None:
    """ValueError unless the zip archive is as torch.save writes it: nothing compressed, no byte used twice, and it names only
    tensors and dicts. With ``sums``, also for a wrong checksum, as after a power cut, which torch.load would not notice."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("it claims more bytes than it has")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                _check_pickle(archive.read(entry))
        if sums and (damaged := archive.testzip()) is not None:  # its name may be empty
            raise ValueError(f"{damaged} is damaged")


def _check_pickle(content: bytes | IO[bytes]) -> None:
    """Reads a pickle to its end; ValueError if it names what tensors do not need, or claims more bytes than there are."""
    for opcode, named, _ in pickletools.genops(content):
        if opcode.name in ("STACK_GLOBAL", "INST") or (opcode.name == "GLOBAL" and not str(named).startswith(MODULES)):
            raise ValueError(f"it names {named}")


def _check_values(content: Any, size: int) -> None:
    """ValueError for values of other types, and for a tensor larger than the file (``size`` bytes), which a stride of 0 makes
    possible."""
    to_do, seen = [content], set()
    while to_do:
        value = to_do.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            to_do += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            to_do += value
        elif isinstance(value, Tensor):
            if value.is_meta or value.layout != torch.strided or value.numel() * value.element_size() > size:
                raise ValueError("it claims more bytes than it has")
        elif not isinstance(value, PLAIN):
            raise ValueError(f"it holds a {type(value).__name__}")
