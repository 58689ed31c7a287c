"""Files of torch.save: tensors and plain values alone, and when one is read no more of them than it holds.

The one place where torch.load is called on a file that may come from anybody. No code in a file is ever run.
"""

import io
import mmap
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from bgad.io import whole

MODULES = ("torch", "collections")  # of what a file may name; PyTorch allows bytearray too, which takes memory without end
ARCHIVE = b"PK\3\4"  # how one begins: by these bytes torch.load tells it from the older format
OLD_PICKLES = 5  # which that one has before its tensors' bytes
PLAIN = (str, int, float, bool, type(None))


class NoTensors(Exception):
    """Why a file cannot be read, in a few words; who asked for it says which file, and what to do."""


def save_tensors(path: Path, content: Any) -> None:
    """Writes ``content``, of tensors and plain values; BgadError where it cannot be written."""
    # Through memory: given a file, torch writes its (temporary) name into it, and no two runs would be the same.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with whole(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_tensors(path: Path, device: torch.device) -> Any:
    """The content of a file of torch.save, on ``device``. NoTensors where it is no such file, damaged, or holds anything but
    tensors and plain values in dicts, lists and tuples; FileNotFoundError where there is none."""
    if not path.exists():
        raise FileNotFoundError(path)
    if not path.is_file():
        raise NoTensors("it is no file")
    try:
        if not _is_archive(path):
            raise NoTensors("it is no archive")
        _check_archive(path)
        _check_sums(path)
        content = torch.load(path, map_location=device, weights_only=True)
        _check_values(content, path.stat().st_size)
    except NoTensors:
        raise
    except Exception as error:  # of many kinds, by what is damaged; all mean the same
        raise NoTensors(type(error).__name__) from error
    return content


def check_file(path: Path) -> None:
    """NoTensors unless the file is as torch.save writes it, today or before PyTorch 1.6, as many published weights are, and
    names nothing beside tensors and dicts. Damage raises errors of many kinds."""
    if _is_archive(path):
        _check_archive(path)
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(OLD_PICKLES):
            _check_pickle(cast(IO[bytes], content))


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(ARCHIVE)) == ARCHIVE


def _check_archive(path: Path) -> None:
    """NoTensors unless the zip archive is as torch.save writes it: nothing compressed, no byte taken twice, and nothing named
    beside tensors and dicts."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise NoTensors("it is compressed")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise NoTensors("it claims more bytes than it has")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                _check_pickle(archive.read(entry))


def _check_pickle(content: bytes | IO[bytes]) -> None:
    """NoTensors where a pickle names anything else than tensors are made of; ValueError where it claims more than there is. It
    reads to the pickle's end."""
    for opcode, named, _ in pickletools.genops(content):
        if opcode.name in ("STACK_GLOBAL", "INST") or (opcode.name == "GLOBAL" and not str(named).startswith(MODULES)):
            raise NoTensors(f"it names {named}")


def _check_sums(path: Path) -> None:
    """NoTensors where bytes are not those that were written, as after a power cut; torch.load would take them."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:  # its name may be empty
            raise NoTensors(f"{damaged} is damaged")


def _check_values(content: Any, size: int) -> None:
    """``size`` of the file in bytes, which a tensor that repeats itself (a stride of 0) can claim to exceed."""
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
                raise NoTensors("it claims more bytes than it has")
        elif not isinstance(value, PLAIN):
            raise NoTensors(f"it holds a {type(value).__name__}")
