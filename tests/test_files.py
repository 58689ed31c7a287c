"""Files are complete or not there."""

import json
import os

import pytest

from bgad.errors import FileError
from bgad.io import read_json, several, whole, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_complete_in_a_new_folder(tmp_path):
    target = tmp_path / "a" / "b" / "table.csv"
    with whole(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == target.parent, "another folder can be another disk, where a rename is a copy"
        assert temporary.suffix == ".csv"
    assert target.read_text() == "new"
    assert names(target.parent) == ["table.csv"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, FileError])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_failed_write_leaves_nothing_new_and_keeps_the_old_file(tmp_path, error, old):
    target = tmp_path / "model.pt"
    if old:
        target.write_text(old)
    with pytest.raises(error), whole(target) as temporary:
        temporary.write_text("half of")
        raise error("stopped")
    assert names(tmp_path) == (["model.pt"] if old else [])
    assert not old or target.read_text() == old


def test_a_full_disk_ends_in_a_sentence(tmp_path):
    target = tmp_path / "model.pt"
    with pytest.raises(FileError, match=rf"^{target}: .*No space left on device"), whole(target) as temporary:
        temporary.write_text("half of")
        raise OSError(28, os.strerror(28))
    assert names(tmp_path) == []


def test_an_impossible_path_ends_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for target in (tmp_path / "file" / "table.md", tmp_path / "file" / "deeper" / "table.md", tmp_path):
        with pytest.raises(FileError, match="cannot be written") as error:
            write_text(target, "text")
        assert str(error.value).startswith(f"{target}: ")
    assert names(tmp_path) == ["file"]


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "table.md", "ä ± β\nnext\n")
    assert (tmp_path / "table.md").read_bytes() == "ä ± β\nnext\n".encode()


def test_json_comes_back_as_it_was_and_refuses_what_json_does_not_have(tmp_path):
    path = tmp_path / "metrics.json"
    values = {"category": "Größe 5", "auroc": 99.25, "aupro": None, "list": [1, [2, "a"]]}
    write_json(path, values)
    assert read_json(path) == values
    assert json.loads(path.read_text()) == values
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            write_json(path, {"auroc": value})
    assert read_json(path) == values
    assert names(tmp_path) == ["metrics.json"]


def test_a_missing_or_damaged_json_file_is_named(tmp_path):
    path = tmp_path / "split.json"
    with pytest.raises(FileError, match=rf"^{path}: .*No such file"):
        read_json(path)
    for content in (b"", b'{"pool": [', b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(FileError) as error:
            read_json(path)
        assert str(error.value).startswith(f"{path}: not valid JSON (")
        assert "\n" not in str(error.value)


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}
    for name in real:
        monkeypatch.setattr(os, name, lambda *a, name=name, **k: (done.append(name), real[name](*a, **k)))
    write_text(tmp_path / "split.json", "x")
    with several(tmp_path / "results") as folder:
        (folder / "a.csv").write_text("x")
    assert done == ["fsync", "replace"] * 2
