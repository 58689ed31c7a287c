"""A cell from its split and cached features to its files, with and without masks, and predictions by its model."""

import csv
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from folders import make_category, mask_of, save
from PIL import Image

from bgad.anomalies.synthetic import compute_synthetic
from bgad.config.cells import Cell
from bgad.config.settings import Dataset, Recipe, read_yaml
from bgad.data.layouts import build_index
from bgad.data.splits import draw
from bgad.errors import BgadError, DataError, FileError, TrainingError
from bgad.evaluation.metrics import best_f1_threshold
from bgad.features.backbone import load_backbone
from bgad.features.cache import compute, load
from bgad.methods.bgad import build_flows
from bgad.methods.predict import predict
from bgad.methods.runner import run_cell
from bgad.model.scoring import anomaly_maps
from bgad.randomness import frozen_generator, torch_generator
from bgad.training.train import train as real_train

CPU = torch.device("cpu")
RECIPES = Path(__file__).parents[1] / "config" / "recipes"


def recipe(name="demo", **sampling) -> Recipe:
    values = read_yaml(RECIPES / f"{name}.yaml")
    values |= {"backbone": "tf_efficientnet_lite0", "image_size": 32}
    values["flow"] |= {"blocks": 2}
    values["schedule"] |= {"meta_epochs": 3, "sub_epochs": 1, "evaluate_every": 2}
    values["sampling"] |= ({} if name == "paper" else {"level_steps": [3, 2, 1]}) | sampling
    return Recipe.model_validate(values)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tf_efficientnet_lite0", CPU)


class Category:
    """A small category on disk with its index, features, split and pool."""

    def __init__(self, root: Path, backbone, masks: bool, change=lambda folder: None, **settings):
        self.root = root
        change(make_category(root, "part", types={"cut": 8, "hole": 8}, train=6, good=4, masks=masks))
        self.index = build_index("own", "part", root, Dataset(path=root, **settings))
        compute(self.index, root, backbone, 32, root / "features")
        self.cache = load(root / "features")
        self.split = draw(self.index, "seen", 0)
        self.pools = {}
        for kind in ("cutpaste", "pseudo") if masks else ():
            compute_synthetic(kind, self.index, self.split, root, backbone, 32, 10, 2, root / kind)
            self.pools[kind] = load(root / kind)

    def run(self, k: int, method: str, name: str, recipe: Recipe) -> tuple[dict, Path]:
        cell = Cell("tiny", "own", "part", "seen", k, method, 0)
        output = self.root / name
        inputs = (recipe, self.index, self.split, self.cache, self.pools, self.root, CPU)
        return run_cell(cell, *inputs, output, log=lambda line: None), output


@pytest.fixture(scope="module")
def whole(tmp_path_factory, backbone) -> Category:
    return Category(tmp_path_factory.mktemp("whole"), backbone, masks=True)


def loaded_by(*arguments: str) -> set[str]:
    """What ``bgad`` with these arguments has loaded in the end of the libraries that take long and that it may not need."""
    slow = "torch timm torchvision sympy torch._dynamo scipy.ndimage skimage albumentations matplotlib pandas requests rich"
    code = f"""if True:
        import atexit, sys
        from bgad.cli import main
        atexit.register(lambda: print("loaded", *{set(slow.split())} & set(sys.modules)))
        main()
    """
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split()[1:])


def test_a_step_loads_what_it_uses_alone(whole, tmp_path):
    index, split, root = tmp_path / "index.json", tmp_path / "split.json", ("--root", str(whole.root))
    own = ("--dataset", "own", "--category", "part", "--datasets", f'{{"own": {{"path": "{whole.root}"}}}}')
    assert loaded_by("index", *own, *root, "--output", str(index)) == set()
    assert loaded_by("split", "--index", str(index), "--split", "seen", "--seed", "0", "--output", str(split)) == set()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe().model_dump(mode="json")))
    inputs = ("--recipe", str(tmp_path / "recipe.yaml"), "--index", str(index), "--split", str(split), *root)
    caches = ("--features", str(whole.root / "features"), "--cutpaste", str(whole.root / "cutpaste"))
    cell = str(tmp_path / "results/tiny/own/part/seen/k3/bgad/seed0")
    assert loaded_by("cell", cell, *inputs, *caches, "--device", "cpu") == {"torch", "scipy.ndimage"}


def test_without_masks_there_is_image_auroc_alone(tmp_path, backbone):
    category = Category(tmp_path, backbone, masks=False)
    metrics, _ = category.run(0, "bgad-wo", "k0", recipe())
    for figures in (metrics, metrics["full_test"]):
        assert 0 <= figures["image_auroc"]["last"] <= 100
        assert (
            figures["pixel_auroc"]
            == figures["aupro"]
            == figures["released_pro"]
            == {"last": None, "best": None, "best_epoch": None}
        )
    assert [kind["pixel_auroc"] for kind in metrics["by_type"].values()] == [None, None]
    with pytest.raises(DataError, match=r"own/part .*ground_truth"):
        category.run(1, "bgad", "k1", recipe())
    assert not (tmp_path / "k1").exists()
    with pytest.raises(BgadError, match=r"own/part .*ground_truth"):
        compute_synthetic("cutpaste", category.index, category.split, tmp_path, backbone, 32, 10, 2, tmp_path / "pool")
    assert not (tmp_path / "pool").exists()


def test_12_bits_and_a_missing_mask_from_the_folder_to_a_prediction(tmp_path, backbone):
    def change(folder: Path) -> None:
        for path in folder.glob("t*/*/*.png"):
            save(path, np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16)
        mask_of(folder, "cut", 2).unlink()

    category = Category(tmp_path, backbone, True, change, bit_depth=12)
    metrics, folder = category.run(3, "bgad", "results", recipe())
    assert len(metrics["notes"]) == 2
    assert "4095" in metrics["notes"][0] and "test/cut/002.png" in metrics["notes"][1]
    assert metrics["counts"]["test_anomalous"] == 16 - 10 and metrics["pixel_auroc"]["last"] is not None
    with (folder / "scores.csv").open() as file:
        scores = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    assert "test/cut/002.png" in scores
    for found in predict([tmp_path / "part" / path for path in list(scores)[:3]], folder, CPU):
        assert found.bit_depth == 12
        assert found.score == pytest.approx(scores[found.path.relative_to(tmp_path / "part").as_posix()], rel=1e-4)


def test_the_whole_test_set_takes_the_pool_in_again(whole):
    metrics, _ = whole.run(0, "nf", "nf", recipe())
    assert metrics["counts"] == {"train_normal": 6, "train_anomalous": 0, "test_normal": 4, "test_anomalous": 6}
    full = len(whole.split.full_test())
    assert full == 4 + 16
    assert set(metrics["full_test"]) == {"image_auroc", "pixel_auroc", "aupro", "released_pro"}


def test_the_released_test_command_leaves_the_known_anomalies_in(whole):
    """Checked from scratch: the model's maps of every test image, scaled over all of them, and a count of pairs."""
    values = recipe().model_dump()
    values["quirks"]["test_command_keeps_known"] = True
    metrics, folder = whole.run(3, "bgad", "test command", Recipe.model_validate(values))
    plain, _ = whole.run(3, "bgad", "no test command", recipe())
    assert "released_test_command" not in plain
    assert metrics["image_auroc"] == plain["image_auroc"]

    paths = whole.split.full_test()
    assert set(whole.split.known(3)) < set(paths)
    model = torch.load(folder / "model.pt", weights_only=True)
    flows = build_flows(recipe(), [24, 40, 112], [8, 4, 2], torch_generator("any"), frozen_generator("any"))
    for flow, state in zip(flows, model["model"], strict=True):
        flow.load_state_dict(state)
    with torch.no_grad():
        rows = whole.cache.rows_of(paths)
        likelihoods = [flow.log_likelihood_maps(level[rows]) for flow, level in zip(flows, whole.cache.levels, strict=True)]
    found = dict(zip(paths, anomaly_maps(likelihoods, 32).flatten(1).max(dim=1).values.tolist(), strict=True))
    normal = [score for path, score in found.items() if "/good/" in path]
    anomalous = [score for path, score in found.items() if "/good/" not in path]
    assert (len(normal), len(anomalous)) == (4, 16)
    won = sum((a > n) + 0.5 * (a == n) for a in anomalous for n in normal)
    assert metrics["released_test_command"]["image_auroc"] == pytest.approx(100 * won / 64, abs=1e-3)
    assert set(metrics["released_test_command"]) == {"image_auroc", "pixel_auroc", "aupro", "released_pro"}

    without, _ = whole.run(0, "nf", "no test command at k0", Recipe.model_validate(values))
    assert "released_test_command" not in without  # full_test is that already


@pytest.mark.parametrize(
    ("strategy", "entries"), [("repeat", [6]), ("repeat+cutpaste", [6, 6]), ("repeat+pseudo", [6, 6]), ("all", [6, 6, 6])]
)
@pytest.mark.parametrize("synthetic", ["every_pass", "pool"])
def test_a_strategy_has_two_times_three_entries_of_each_kind(whole, monkeypatch, backbone, strategy, entries, synthetic):
    monkeypatch.setattr("bgad.methods.bgad.load_backbone", lambda *_: backbone)
    passes = []

    def spy(recipe, method, flows, normal, entries, *rest):
        passes.append(next(entries))
        real_train(recipe, method, flows, normal, chain(passes, entries), *rest)

    monkeypatch.setattr("bgad.methods.bgad.train", spy)
    anomalies = {"strategy": strategy, "repeat": 2, "synthetic": synthetic, "pool": 2 if synthetic == "pool" else 0}
    chosen = Recipe.model_validate(recipe("paper", images=4, vectors=16).model_dump() | {"anomalies": anomalies})
    whole.run(3, "bgad", f"entries {strategy} {synthetic}", chosen)
    (parts,) = passes
    assert [len(part) for part in parts] == entries
    # The real images in their order, twice; the others differ from them.
    rows = whole.cache.rows_of(whole.split.known(3))
    assert torch.equal(parts[0].levels[2], whole.cache.levels[2][rows].repeat(2, 1, 1))
    assert all(not torch.equal(part.levels[2], parts[0].levels[2]) for part in parts[1:])
    assert all(part.defects[0].any() for part in parts)


@pytest.mark.parametrize("synthetic", ["pool", "every_pass"])
@pytest.mark.parametrize("strategy", ["repeat", "repeat+cutpaste", "repeat+pseudo", "all"])
@pytest.mark.parametrize("sampling", ["vector_draws", "image_batches"])
def test_every_way_of_training_repeats_to_the_bit(whole, monkeypatch, backbone, strategy, synthetic, sampling):
    monkeypatch.setattr("bgad.methods.bgad.load_backbone", lambda *_: backbone)
    chosen = recipe("paper", images=4, vectors=16) if sampling == "image_batches" else recipe(vectors=32)
    anomalies = {"strategy": strategy, "repeat": 2, "synthetic": synthetic, "pool": 2 if synthetic == "pool" else 0}
    chosen = Recipe.model_validate(chosen.model_dump() | {"anomalies": anomalies})
    first, folder = whole.run(3, "bgad", f"{sampling}-{strategy}-{synthetic}-1", chosen)
    again, other = whole.run(3, "bgad", f"{sampling}-{strategy}-{synthetic}-2", chosen)
    assert first | {"timing": 0} == again | {"timing": 0}
    for name in ("scores.csv", "model.pt"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_a_model_scores_images_as_its_cell_did(whole):
    _, folder = whole.run(3, "bgad", "to predict", recipe())
    with (folder / "scores.csv").open() as file:
        scores = {row["path"]: row for row in csv.DictReader(file)}
    paths = [whole.root / "part" / path for path in scores]
    found = predict(paths, folder, CPU)
    for one, row in zip(found, scores.values(), strict=True):
        assert one.score == pytest.approx(float(row["score"]), abs=1e-4)
        assert one.anomaly_map.shape == (32, 32)
    labels, values = zip(*((row["anomalous"] == "1", float(row["score"])) for row in scores.values()), strict=True)
    assert found[0].threshold == pytest.approx(best_f1_threshold(labels, values), abs=1e-5)
    assert [one.anomalous for one in found] == [value >= found[0].threshold - 1e-6 for value in values]


def test_a_last_step_that_leaves_no_finite_likelihood_is_an_error(whole, monkeypatch):
    """No loss shows it, and at -inf every score would still be a number. Nothing is written."""

    def spoilt(*inputs):
        *_, epochs, _state = inputs
        evaluate = epochs.evaluate

        def after_spoiling(flows, epoch):
            with torch.no_grad():
                flows[1].module_list[0].global_offset.fill_(torch.inf if epoch == 2 else 0)
            return evaluate(flows, epoch)

        epochs.evaluate = after_spoiling
        real_train(*inputs)

    monkeypatch.setattr("bgad.methods.bgad.train", spoilt)
    with pytest.raises(TrainingError, match=r"meta epoch 2 .*level 2 .*10 of 10"):
        whole.run(3, "bgad", "spoilt", recipe())
    assert not (whole.root / "spoilt").exists()


def test_an_image_without_a_finite_score_is_an_error(whole):
    _, folder = whole.run(3, "bgad", "to spoil", recipe())
    content = torch.load(folder / "model.pt", weights_only=True)
    content["model"][2]["module_list.0.global_offset"].fill_(torch.nan)
    torch.save(content, folder / "model.pt")
    image = whole.root / "part/test/good/000.png"
    with pytest.raises(TrainingError, match=r"000\.png.*model\.pt.*level 3"):
        predict([image], folder, CPU)


def test_features_of_other_weights_are_refused(whole, tmp_path, monkeypatch, backbone):
    """In a pool, in images made anew, and in pictures to score: never mixed, and the hashes are said."""
    metrics, folder = whole.run(3, "bgad", "weights", recipe())
    assert metrics["weights_sha256"] == backbone.weights_sha256
    other = replace(backbone, weights_sha256="f" * 64)
    monkeypatch.setattr("bgad.methods.predict.load_backbone", lambda *_: other)
    with pytest.raises(FileError, match=r"model\.pt.*f{12}"):
        predict([], folder, CPU)
    monkeypatch.setattr("bgad.methods.bgad.load_backbone", lambda *_: other)
    fresh = recipe("paper", images=4, vectors=16)
    with pytest.raises(FileError, match=r"f{12}.*resources/features"):
        whole.run(3, "bgad", "weights, every pass", fresh)
    pools = whole.pools
    monkeypatch.setattr(whole, "pools", {kind: replace(pool, weights_sha256="e" * 64) for kind, pool in pools.items()})
    with pytest.raises(FileError, match=r"cutpaste.*e{12}.*resources/cutpaste"):
        whole.run(3, "bgad", "weights, pool", recipe())


def test_a_model_that_is_missing_or_damaged_is_named(whole, tmp_path):
    with pytest.raises(FileError, match=r"model\.pt"):
        predict([], tmp_path, CPU)
    (tmp_path / "model.pt").write_bytes(b"not a model")
    with pytest.raises(FileError, match=r"model\.pt"):
        predict([], tmp_path, CPU)
