"""A training that is stopped after a meta epoch and goes on from its checkpoint, beside one that nothing has disturbed."""

import json

import pytest
import torch
from test_results import CPU, Category, recipe

from bgad import finished
from bgad.config.cells import Cell
from bgad.config.paths import CELL_FILES
from bgad.config.settings import Recipe
from bgad.features.backbone import load_backbone
from bgad.methods.runner import run_cell
from bgad.training.checkpoint import Checkpoint, key_of

EPOCHS = 3
FILES = ("model.pt", "scores.csv", "likelihoods.json", "gallery/maps.png")


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
    if name == "anew":
        values["anomalies"] |= {"synthetic": "every_pass", "strategy": "all"}
        values["anomalies"].pop("pool")
    return Recipe.model_validate(values)


def made(category: Category, cell: Cell, of: Recipe, name: str, key: str = "key", stop_after: int | None = None) -> dict:
    """The cell, made in the folder ``name``, with a checkpoint after every meta epoch; killed after ``stop_after`` of them."""
    lines = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith(f"epoch {stop_after}/"):
            raise Stopped

    folder = category.root / name
    inputs = (cell, of, category.index, category.split, category.cache, category.pools, category.root, CPU, folder)
    checkpoint = Checkpoint(folder, key, 0)
    metrics = run_cell(*inputs, say=say, checkpoint=checkpoint)
    checkpoint.remove()
    return metrics | {"said": lines}


@pytest.mark.parametrize("kind", ["vectors", "batches", "anew"])
def test_it_goes_on_to_the_same_bits(category, kind):
    cell, of = Cell("tiny", "own", "part", "seen", 3, "bgad", 0), of_kind(kind)
    undisturbed, name = made(category, cell, of, f"{kind} undisturbed"), f"{kind} stopped"
    # In the 2nd and again in the 3rd meta epoch: what it has just said is not in the checkpoint yet.
    for stop in (2, 3):
        with pytest.raises(Stopped):
            made(category, cell, of, name, stop_after=stop)
        assert {path.name for path in (category.root / name).iterdir()} == {"checkpoint.pt"}
    resumed = made(category, cell, of, name)
    assert resumed["said"][0] == "going on after epoch 2, from checkpoint.pt"
    assert [line.split()[1] for line in resumed["said"][1:]] == ["3/3"]
    for file in FILES:
        assert (category.root / name / file).read_bytes() == (category.root / f"{kind} undisturbed" / file).read_bytes()
    for values in (undisturbed, resumed):
        del values["timing"], values["said"]
    assert undisturbed == resumed


@pytest.mark.parametrize("method", ["nf", "bgad-wo"])
def test_so_does_a_training_without_anomalies(category, method):
    cell, of = Cell("tiny", "own", "part", "seen", 0, method, 1), of_kind("batches")
    made(category, cell, of, f"{method} undisturbed")
    with pytest.raises(Stopped):
        made(category, cell, of, f"{method} stopped", stop_after=3)
    made(category, cell, of, f"{method} stopped")
    for file in FILES:
        whole, resumed = (category.root / f"{method} {name}" / file for name in ("undisturbed", "stopped"))
        assert whole.read_bytes() == resumed.read_bytes()


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def with_zeros(content: bytes) -> bytes:
    """As a page that was never written to the disk: in a weight, where nothing but its sum tells."""
    start = content.index(b"/data/") + len(content) // 2
    return content[:start] + bytes(512) + content[start + 512 :]


def test_a_checkpoint_of_something_else_or_a_damaged_one_counts_for_nothing(category):
    cell, of = Cell("tiny", "own", "part", "seen", 1, "bgad", 0), of_kind("vectors")
    path = category.root / "other" / "checkpoint.pt"
    for damage in (None, cut_short, with_zeros, lambda content: b"", lambda content: b"\x80\x04K\x01."):
        with pytest.raises(Stopped):
            made(category, cell, of, "other", key="of this", stop_after=3)
        if damage:
            path.write_bytes(damage(path.read_bytes()))
        said = made(category, cell, of, "other", key="of this" if damage else "of that")["said"]
        assert said[0].startswith("epoch 1/3"), said


def test_a_checkpoint_of_steps_that_round_otherwise_counts_for_nothing(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    Checkpoint(tmp_path, "key", 0).save({"epoch": 1})
    assert Checkpoint(tmp_path, "key", 0).load() == {"epoch": 1}
    monkeypatch.setattr("bgad.training.checkpoint.torch.get_num_threads", lambda: threads + 1)
    assert Checkpoint(tmp_path, "key", 0).load() is None
    monkeypatch.undo()
    monkeypatch.setattr("bgad.training.checkpoint.coupling.describe", lambda: "otherwise")
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


def test_a_finished_cell_has_its_files_back_for_the_same_key_alone(tmp_path):
    folder = tmp_path / "cell"
    (folder / "gallery").mkdir(parents=True)

    def write() -> None:
        for name in (*CELL_FILES, "train.log", "checkpoint.pt"):
            (folder / name).write_text(json.dumps(name))

    def there() -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {
            path.relative_to(folder).as_posix() for path in (folder / ".finished").rglob("*")
        }

    def take_away() -> None:  # as Snakemake does with the files of an incomplete cell
        for name in there():
            (folder / name).unlink()

    write()
    finished.keep(folder, "key")
    assert not finished.bring_back(folder, "key"), "it is there, so who calls wants it anew"
    assert finished.bring_back(folder, "key", just_made=True)
    before = (folder / "metrics.json").stat().st_ino
    take_away()
    assert not finished.bring_back(folder, "another")
    assert there() == set()
    assert finished.bring_back(folder, "key")
    assert there() == set(CELL_FILES)
    assert (folder / "metrics.json").stat().st_ino == before
    take_away()
    (folder / ".finished" / "scores.csv").unlink()  # by a run that was killed while it forgot them
    assert not finished.bring_back(folder, "key")
    assert there() == set()
    finished.forget(folder)
    assert not finished.bring_back(folder, "key")

    # A run took its first files away while a process that had outlived the run before made it.
    write()
    (folder / "scores.csv").unlink()
    finished.keep(folder, "key")
    assert not finished.bring_back(folder, "key", just_made=True)
