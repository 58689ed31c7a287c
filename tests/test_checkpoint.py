"""A training that is stopped after a meta epoch and resumed from its checkpoint, compared with one that was never stopped."""

import pytest
import torch
from test_runner import CPU, Category, recipe

from bgad.config.cells import Cell
from bgad.config.settings import Recipe
from bgad.features.backbone import load_backbone
from bgad.methods.runner import run_cell
from bgad.training.checkpoint import Checkpoint, key_of

EPOCHS = 3
FILES = ("model.pt", "scores.csv", "curves.npz", "likelihoods.json", "gallery/maps.png")


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def category(tmp_path_factory) -> Category:
    return Category(tmp_path_factory.mktemp("category"), load_backbone("tf_efficientnet_lite0", CPU), masks=True)


def of_kind(name: str) -> Recipe:
    values = recipe().model_dump()
    values["schedule"] |= {"meta_epochs": EPOCHS, "sub_epochs": 2, "evaluate_every": 1}
    if name != "vectors":
        values["sampling"] = {"kind": "image_batches", "images": 4, "vectors": 16}
        values["quirks"] |= {"idle_levels_keep_momentum": True, "warm_up_counts_loaders": True}
    if name == "every_pass":
        values["anomalies"] |= {"synthetic": "every_pass", "strategy": "all"}
        values["anomalies"].pop("pool")
    return Recipe.model_validate(values)


def made(category: Category, cell: Cell, of: Recipe, name: str, key: str = "key", stop_after: int | None = None) -> dict:
    """The cell, made in the folder ``name``, with a checkpoint after every meta epoch; killed after ``stop_after`` of them."""
    lines = []

    def log(line: str) -> None:
        lines.append(line)
        if line.startswith(f"epoch {stop_after}/"):
            raise Stopped

    folder = category.root / name
    inputs = (cell, of, category.index, category.split, category.cache, category.pools, category.root, CPU, folder)
    checkpoint = Checkpoint(folder, key, 0)
    metrics = run_cell(*inputs, log=log, checkpoint=checkpoint)
    return metrics | {"said": lines}


@pytest.mark.parametrize("kind", ["vectors", "batches", "every_pass"])
def test_it_resumes_to_the_same_bits(category, kind):
    cell, of = Cell("tiny", "own", "part", "seen", 3, "bgad", 0), of_kind(kind)
    uninterrupted, name = made(category, cell, of, f"{kind} uninterrupted"), f"{kind} stopped"
    # In the 2nd and again in the 3rd meta epoch: what it has just said is not in the checkpoint yet.
    for stop in (2, 3):
        with pytest.raises(Stopped):
            made(category, cell, of, name, stop_after=stop)
        assert {path.name for path in (category.root / name).iterdir()} == {"checkpoint.pt"}
    resumed = made(category, cell, of, name)
    assert resumed["said"][0] == "resuming after epoch 2 from checkpoint.pt"
    assert [line.split()[1] for line in resumed["said"][1:]] == ["3/3"]
    for file in FILES:
        assert (category.root / name / file).read_bytes() == (category.root / f"{kind} uninterrupted" / file).read_bytes()
    for values in (uninterrupted, resumed):
        del values["timing"], values["environment"], values["said"]
    assert uninterrupted == resumed


def test_the_last_checkpoint_is_the_trained_model(category):
    """A cell that is made again from it, as after a kill before the cell was recorded, is evaluated and written only."""
    cell, of = Cell("tiny", "own", "part", "seen", 1, "bgad", 0), of_kind("vectors")
    trained, folder = made(category, cell, of, "trained"), category.root / "trained"
    before = {file: (folder / file).read_bytes() for file in (*FILES, "history.csv")}
    for file in before:
        (folder / file).unlink()
    again = made(category, cell, of, "trained")
    assert not any(line.startswith("epoch") for line in again["said"])
    assert {file: (folder / file).read_bytes() for file in before} == before
    for values in (trained, again):
        del values["timing"], values["environment"], values["said"]
    assert trained == again


@pytest.mark.parametrize("method", ["nf", "bgad-wo"])
def test_so_does_a_training_without_anomalies(category, method):
    cell, of = Cell("tiny", "own", "part", "seen", 0, method, 1), of_kind("batches")
    made(category, cell, of, f"{method} uninterrupted")
    with pytest.raises(Stopped):
        made(category, cell, of, f"{method} stopped", stop_after=3)
    made(category, cell, of, f"{method} stopped")
    for file in FILES:
        whole, resumed = (category.root / f"{method} {name}" / file for name in ("uninterrupted", "stopped"))
        assert whole.read_bytes() == resumed.read_bytes()


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def with_zeros(content: bytes) -> bytes:
    """As a page that was never written to the disk: in a weight, where nothing but its sum tells."""
    start = content.index(b"/data/") + len(content) // 2
    return content[:start] + bytes(512) + content[start + 512 :]


def test_a_checkpoint_of_something_else_or_a_damaged_one_is_ignored(category):
    cell, of = Cell("tiny", "own", "part", "seen", 1, "bgad", 0), of_kind("vectors")
    path = category.root / "other" / "checkpoint.pt"
    for damage in (None, cut_short, with_zeros, lambda content: b"", lambda content: b"\x80\x04K\x01."):
        path.unlink(missing_ok=True)
        with pytest.raises(Stopped):
            made(category, cell, of, "other", key="of this", stop_after=3)
        if damage:
            path.write_bytes(damage(path.read_bytes()))
        said = made(category, cell, of, "other", key="of this" if damage else "of that")["said"]
        assert said[0].startswith("epoch 1/3"), said


def test_a_checkpoint_of_steps_that_round_otherwise_is_ignored(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    Checkpoint(tmp_path, "key", 0).save({"epoch": 1})
    assert Checkpoint(tmp_path, "key", 0).load() == {"epoch": 1}
    monkeypatch.setattr("bgad.training.checkpoint.torch.get_num_threads", lambda: threads + 1)
    assert Checkpoint(tmp_path, "key", 0).load() is None
    monkeypatch.undo()
    monkeypatch.setattr("bgad.training.checkpoint.chain.describe", lambda: "otherwise")
    assert Checkpoint(tmp_path, "key", 0).load() is None


def test_a_checkpoint_runs_no_code(category, tmp_path):
    class Runs:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    torch.save({"key": "key", "state": Runs()}, tmp_path / "checkpoint.pt")
    assert Checkpoint(tmp_path, "key", 0).load() is None
    assert not (tmp_path / "canary").exists()


def test_it_is_due_when_its_seconds_have_passed(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("bgad.training.checkpoint.time.monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path, "key", every=60)
    now[0] += 59
    assert not checkpoint.is_due
    now[0] += 1
    assert checkpoint.is_due
    checkpoint.save({"epoch": 1})
    assert not checkpoint.is_due
    assert Checkpoint(tmp_path, "key", 60).load() == {"epoch": 1}


def test_the_key_depends_on_all_that_decides_a_cell(category):
    cell, of = Cell("tiny", "own", "part", "seen", 3, "bgad", 0), of_kind("vectors")
    inputs = [cell, of, category.index, category.split, category.cache, category.pools, CPU]
    others = {
        0: Cell("tiny", "own", "part", "seen", 3, "bgad", 1),
        1: of_kind("batches"),
        4: category.pools["cutpaste"],
        5: {"cutpaste": category.pools["pseudo"]},
        6: torch.device("cuda"),
    }
    keys = {key_of(*inputs)} | {key_of(*inputs[:place], other, *inputs[place + 1 :]) for place, other in others.items()}
    assert len(keys) == 1 + len(others)
