"""Files of torch.save from anybody: they name only tensors, take no more memory than they have bytes, and damage is found."""

import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from bgad.tensors import check_file, load_tensors

CPU = torch.device("cpu")


class TakesMemory:
    def __reduce__(self):
        return bytearray, (10**7,)  # which PyTorch allows


def test_a_checkpoint_names_tensors_and_nothing_else(tmp_path):
    path = tmp_path / "x.pt"
    torch.save([TakesMemory()], path)
    assert len(torch.load(path, weights_only=True)[0]) == 10**7
    with pytest.raises(ValueError, match="bytearray"):
        load_tensors(path, CPU)
    torch.save(OrderedDict(a=torch.ones(2), b=torch.nn.Parameter(torch.ones(1))), path)
    assert load_tensors(path, CPU)["a"].sum() == 2


def old_file(content, path: Path) -> bytes:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


def test_weights_of_the_older_format_take_no_more_than_they_hold(tmp_path):
    path = tmp_path / "x.pt"
    whole = old_file({"a": torch.ones(2), "b": torch.nn.Parameter(torch.ones(1))}, path)
    check_file(path)
    assert torch.load(path, weights_only=True)["a"].sum() == 2
    with pytest.raises(ValueError, match="archive"):  # our own files are never of that format
        load_tensors(path, CPU)
    old_file([TakesMemory()], path)
    with pytest.raises(ValueError, match="bytearray"):
        check_file(path)
    text = whole.index(b"X\x01\x00\x00\x00a")  # a string, its length in four bytes
    for damaged in (b"", b"X\0\0\0\xbd", whole[:100], whole[:text] + b"X\0\0\0\xbda" + whole[text + 6 :]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError):
            check_file(path)


def test_an_archive_behind_other_bytes_is_not_what_is_read(tmp_path):
    path, old = tmp_path / "x.pt", old_file([TakesMemory()], tmp_path / "old.pt")
    torch.save([torch.ones(1)], path)
    path.write_bytes(old + path.read_bytes())
    assert zipfile.is_zipfile(path) and len(torch.load(path, weights_only=True)[0]) == 10**7
    with pytest.raises(ValueError, match="archive"):
        load_tensors(path, CPU)
    with pytest.raises(ValueError, match="bytearray"):
        check_file(path)


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in entries:
            archive.writestr(name, body)


def test_a_checkpoint_is_no_larger_than_its_file(tmp_path):
    path = tmp_path / "x.pt"
    torch.save([torch.zeros(1).expand(10**12)], path)
    with pytest.raises(ValueError, match="more bytes than it has"):
        load_tensors(path, CPU)
    torch.save([torch.zeros(10**6)], path)
    assert load_tensors(path, CPU)[0].shape == (10**6,)
    compressed(path)
    with pytest.raises(ValueError, match="compressed"):
        load_tensors(path, CPU)
    for value in (torch.zeros(3).to_sparse(), torch.zeros(3, device="meta"), torch.float32):
        torch.save([value], path)
        with pytest.raises(ValueError):
            load_tensors(path, CPU)
