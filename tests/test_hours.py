"""A suite's work: counted as the code takes its steps, and priced with the times of the file."""

from collections import Counter

import pytest
import torch
from bgad.cli.doctor import hours
from conftest import ROOT
from folders import make_category
from synthetic import cell

from bgad.anomalies.synthetic import AnomalousImages
from bgad.cli.doctor.hours import Counts, StepTimes, counts_of, shared_work, step_times, steps_of_pass, vectors_of, work_of
from bgad.config.settings import Dataset, load_recipe
from bgad.data.download.presets import dataset
from bgad.features import backbone as backbones
from bgad.randomness import frozen_generator, torch_generator
from bgad.training.sampling import NormalImages, mini_batches
from bgad.methods.bgad import build_flows

NORMALS = 37
RECIPES = {path.stem: load_recipe(path) for path in (ROOT / "config/recipes").glob("*.yaml")}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def maps(images: int, image_size: int) -> list[torch.Tensor]:
    return [torch.zeros(images, count, 1) for count in vectors_of(image_size)]


@pytest.mark.parametrize("name", ["paper", "cpu", "demo"])
@pytest.mark.parametrize("entries", [0, 30])
def test_the_steps_of_a_pass_are_those_that_it_takes(name, entries):
    recipe = RECIPES[name]
    parts = []
    if entries:
        levels = maps(entries, recipe.image_size)
        parts = [AnomalousImages(levels, [torch.rand(level.shape[:2]) < 0.1 for level in levels])]
    normal = NormalImages(maps(NORMALS, recipe.image_size), torch.arange(NORMALS))
    taken = Counter(batch.level for batch in mini_batches(recipe, normal, parts, 0, torch_generator("a pass")))
    assert steps_of_pass(recipe, NORMALS, entries) == [taken[level] for level in range(3)]


def test_a_cell_s_work():
    work = work_of(cell(recipe="paper", k=10), lambda *_: Counts(209, 83))
    # 24 of 25 meta epochs have entries: 5 x 10 CutPaste images a pass, of which there are 8
    assert work["synthetic", "cutpaste"] == work["image", "paper"] == 24 * 8 * 50
    # (209 + 50 + 50) // 32 batches of 32 images, each of 64 x 64 vectors at level 1, 4096 a step; without entries 209 // 32
    assert work["step", "paper", 0] == 8 * (24 * 9 * 32 + 6 * 32)
    assert work["evaluation", "paper"] == 25 * 83
    without = work_of(cell(recipe="paper", k=0), lambda *_: Counts(209, 83))
    assert without["step", "paper", 2] == 8 * 25 * 6 * 2
    assert not without["synthetic", "cutpaste"]
    detector = cell(recipe="cpu", k=10, method="padim")
    assert shared_work([detector], lambda *_: Counts(209, 83)) == {("image", "cpu"): 292}


def test_of_a_detector_nothing_is_known_beforehand():
    work = work_of(cell(k=0, method="patchcore"), lambda *_: Counts(209, 83))
    assert work == {("detector", "patchcore"): 292}
    assert step_times().seconds(work) is None


def test_what_cells_share_counts_once():
    both = [cell(k=k, seed=seed) for k in (0, 1, 10) for seed in (0, 1)]
    work = shared_work(both, lambda *_: Counts(209, 83))
    assert work == {("image", "cpu"): 292 + 2 * 10 * 10, ("synthetic", "cutpaste"): 2 * 10 * 10}
    of_paper = [cell(recipe=name) for name in ("paper", "corrected", "ablation-beta-0.1")]
    assert sum(shared_work(of_paper, lambda *_: Counts(209, 83)).values()) == 292


def test_images_are_counted_in_a_copy_or_known(tmp_path):
    make_category(tmp_path, train=4, good=3, types={"cut": 3, "hole": 2})
    assert counts_of("own", Dataset(path=tmp_path), "bottle") == (4, 8)
    bottle = dataset("mvtec").counts["bottle"]
    assert counts_of("mvtec", Dataset(), "bottle") == (bottle["train"], sum(bottle.values()) - bottle["train"])
    make_category(tmp_path / "b", layout="btad", train=2, good=1, types={"ko": 1})
    assert counts_of("own", Dataset(path=tmp_path / "b", layout="btad"), "bottle") == (2, 2)


def test_seconds_are_counts_times_times(monkeypatch):
    network = {"backbone": "tf_efficientnet_lite0", "image_size": 256, "blocks": 8, "vectors": 512}
    times = {"image_s": 2, "evaluation_s": 3, "step_s": [10, 20, 30], "channels": [1, 1, 1], "model_bytes": 1}
    found = StepTimes(machine="", synthetic_s={"cutpaste": 5}, networks=[{**network, **times}])
    work = Counter({("step", "cpu", 0): 1, ("step", "cpu", 2): 2, ("image", "cpu"): 4, ("synthetic", "cutpaste"): 6})
    assert found.seconds(work) == 10 + 60 + 8 + 30
    assert found.seconds(work + Counter({("evaluation", "cpu"): 7})) == 108 + 21
    assert found.seconds(Counter({("image", "paper"): 1})) is None


def test_the_file_has_every_recipe_and_its_sizes_are_those_of_the_networks():
    import timm

    assert hours.STRIDES == backbones.STRIDES
    for name, recipe in RECIPES.items():
        assert step_times().of(recipe), f"{name}: run benchmarks/suite_hours.py --write bgad/cli/doctor/step_times.yaml"
    for times in step_times().networks:
        network = timm.create_model(times.backbone, features_only=True, out_indices=backbones.LEVELS, pretrained=False)
        assert tuple(network.feature_info.channels()) == times.channels
    recipe = RECIPES["demo"]
    sides = [recipe.image_size // stride for stride in backbones.STRIDES]
    of_demo = step_times().of(recipe)
    flows = build_flows(recipe, list(of_demo.channels), sides, torch_generator("a"), frozen_generator("a"))
    assert sum(tensor.nbytes for flow in flows for tensor in flow.state_dict().values()) == of_demo.model_bytes
    # 32 x 32, 16 x 16 and 8 x 8 vectors of float32
    assert of_demo.image_bytes == 4 * (1024 * 24 + 256 * 40 + 64 * 112)
