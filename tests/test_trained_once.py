"""Without known anomalies, the training on ``seen`` stands for those on all splits: the same metrics, files and model."""

import csv
from dataclasses import replace

import pytest
import torch
from test_runner import CPU, Category, recipe

from bgad.config.cells import Cell
from bgad.data.splits import draw
from bgad.errors import FileError
from bgad.features.backbone import load_backbone
from bgad.methods import padim
from bgad.methods.runner import run_cell
from bgad.randomness import permuted, torch_generator
from bgad.tensors import load_tensors, save_tensors
from bgad.training.checkpoint import Checkpoint

METHODS = ("bgad-wo", "nf", "patchcore", "padim")


@pytest.fixture(scope="module")
def category(tmp_path_factory) -> Category:
    return Category(tmp_path_factory.mktemp("category"), load_backbone("tf_efficientnet_lite0", CPU), masks=True)


def run(category, method, split, name, trained=None, of=None, **more):
    """metrics.json of the cell, without what differs between runs, and its folder."""
    cell, folder = Cell("tiny", "own", "part", split, 0, method, 0), category.root / name
    drawn = draw(category.index, split, 0)
    inputs = (cell, of or recipe(), category.index, drawn, category.cache, {}, category.root, CPU, folder)
    metrics = run_cell(*inputs, log=lambda line: None, trained=trained, **more)
    return metrics, folder


def history(folder) -> list[dict]:
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", METHODS)
def test_a_hard_split_of_the_training_on_seen_is_what_its_own_training_gives(category, method):
    seen, of_seen = run(category, method, "seen", f"{method} seen")
    own, of_own = run(category, method, "hard-cut", f"{method} own")
    again, of_again = run(category, method, "hard-cut", f"{method} again", trained=of_seen)
    assert again.pop("trained_in") == f"results/tiny/own/part/seen/k0/{method}/seed0"
    assert again | {"timing": 0} == own | {"timing": 0}
    assert again["by_type"].keys() == {"hole"} and seen["by_type"].keys() == {"cut", "hole"}
    assert again["full_test"] == seen["full_test"]
    for name in ("scores.csv", "curves.npz", "model.pt", "likelihoods.json", "gallery/maps.png"):
        assert (of_again / name).read_bytes() == (of_own / name).read_bytes(), name
    assert not (of_again / "scored.pt").exists()

    rows, own_rows = history(of_again), history(of_own)
    assert [row | {"seconds": 0} for row in rows] == [row | {"seconds": 0} for row in own_rows]
    assert [row["full_aupro"] for row in rows] == [row["full_aupro"] for row in history(of_seen)]
    assert again["timing"]["train_s"] == seen["timing"]["train_s"]
    models = [load_tensors(folder / "model.pt", CPU)["model"] for folder in (of_seen, of_again)]
    assert torch.equal(*(tensors(model) for model in models))


def tensors(value) -> torch.Tensor:
    """All values of a model in a row."""
    if isinstance(value, torch.Tensor):
        return value.flatten().double()
    values = value.values() if isinstance(value, dict) else value
    return torch.cat([tensors(of) for of in values])


def test_a_hard_split_is_evaluated_in_every_epoch(category):
    values = recipe().model_dump()
    values["schedule"] |= {"evaluate_every": 1}
    of = type(recipe()).model_validate(values)
    _, of_seen = run(category, "bgad-wo", "seen", "every seen", of=of)
    metrics, folder = run(category, "bgad-wo", "hard-hole", "every hard", trained=of_seen, of=of)
    column = [float(row["image_auroc"]) for row in history(folder)]
    assert len(column) == 3
    assert metrics["image_auroc"]["best"] == max(column) and metrics["image_auroc"]["last"] == column[-1]


def test_a_training_that_was_stopped_keeps_what_its_evaluations_scored(category):
    def made(name, log=lambda line: None):
        cell, folder = Cell("tiny", "own", "part", "seen", 0, "nf", 0), category.root / name
        inputs = (cell, recipe(), category.index, category.split, category.cache, {}, category.root, CPU, folder)
        run_cell(*inputs, log=log, checkpoint=Checkpoint(folder, "key", 0))
        return load_tensors(folder / "scored.pt", CPU)["found"]

    def stop(line):
        if line.startswith("epoch 3/"):
            raise KeyboardInterrupt

    whole = made("whole")
    with pytest.raises(KeyboardInterrupt):
        made("stopped", stop)
    for found in (made("stopped"), made("stopped")):  # the second time after its end
        assert found.keys() == whole.keys() == {1, 2}
        assert all(torch.equal(tensors(found[epoch]), tensors(whole[epoch])) for epoch in whole)


def test_a_method_whose_model_was_not_kept_is_fitted_again(category, monkeypatch):
    class Model:
        def __init__(self, of):
            self.of = of

    fit, score, fitted = padim.fit, padim.score, []
    monkeypatch.setattr(padim, "fit", lambda images, rng: fitted.append(len(images)) or Model(fit(images, rng)))
    monkeypatch.setattr(padim, "score", lambda model, images: score(model.of, images))
    _, of_seen = run(category, "padim", "seen", "not kept seen")
    again, _ = run(category, "padim", "hard-cut", "not kept again", trained=of_seen)
    assert len(fitted) == 2
    own, _ = run(category, "padim", "hard-cut", "not kept own")
    assert again | {"timing": 0} == own | {"timing": 0}


def test_what_the_training_lacks_is_named(category, tmp_path):
    _, of_seen = run(category, "nf", "seen", "nf to damage")

    def refused(match):
        with pytest.raises(FileError, match=match):
            run(category, "nf", "hard-cut", "refused", trained=of_seen)
        assert not (category.root / "refused").exists()

    scored = of_seen / "scored.pt"
    content, good = load_tensors(scored, CPU), scored.read_bytes()
    for key in ("recipe_sha256", "features_sha256"):
        save_tensors(scored, content | {key: "0" * 64})
        refused(r"scored\.pt")
    save_tensors(scored, content | {"cell": content["cell"] | {"seed": 1}})
    refused(r"scored\.pt")
    scored.write_bytes(good[: len(good) // 2])
    refused(r"scored\.pt")
    scored.unlink()
    refused(r"scored\.pt")
    (of_seen / "model.pt").unlink()
    refused(r"model\.pt")


def test_the_cell_that_trains():
    cell = Cell("cpu", "mvtec", "bottle", "hard-broken", 0, "nf", 3)
    assert cell.training == replace(cell, split="seen")
    assert cell.training.training == cell.training
    assert replace(cell, k=1, method="bgad").training.split == "hard-broken"


@pytest.mark.parametrize(("count", "size"), [(5, 8), (8, 8), (20, 8), (3, 1)])
def test_a_small_pool_gives_as_many_images_as_are_asked_for(count, size):
    rows = permuted(count, size, torch_generator("rows"))
    assert len(rows) == count
    times = torch.bincount(rows, minlength=size)
    assert times.max() - times.min() <= 1, "each is drawn as often as the others"
    assert count > size or torch.equal(rows, torch.randperm(size, generator=torch_generator("rows"))[:count])
