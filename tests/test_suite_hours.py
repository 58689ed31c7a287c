"""benchmarks/suite_hours.py: the work of a suite, counted as the code takes its steps."""

import sys
from collections import Counter

import pytest
import torch
from conftest import ROOT
from folders import make_category
from synthetic import cell

from bgad.anomalies.synthetic import AnomalousImages
from bgad.config.settings import Dataset
from bgad.data.download.presets import dataset
from bgad.randomness import torch_generator
from bgad.training.sampling import mini_batches

sys.path.insert(0, str(ROOT / "benchmarks"))
from suite_hours import STRIDES, Counts, alike, counts_of, recipe_of, shared_work, steps_of_pass, work_of

NORMALS = 37
BOTTLE = lambda *_: Counts(209, 83)  # noqa: E731


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def maps(images: int, image_size: int) -> list[torch.Tensor]:
    return [torch.zeros(images, (image_size // stride) ** 2, 1) for stride in STRIDES]


@pytest.mark.parametrize("name", ["paper", "cpu", "demo"])
@pytest.mark.parametrize("entries", [0, 30])
def test_the_steps_of_a_pass_are_those_that_training_takes(name, entries):
    recipe = recipe_of(name)
    parts = []
    if entries:
        levels = maps(entries, recipe.image_size)
        parts = [AnomalousImages(levels, [torch.rand(level.shape[:2]) < 0.1 for level in levels])]
    taken = Counter(
        b.level for b in mini_batches(recipe, maps(NORMALS, recipe.image_size), parts, 0, torch_generator("a pass"))
    )
    assert steps_of_pass(recipe, NORMALS, entries) == [taken[level] for level in range(3)]


def test_the_work_of_a_cell():
    work = work_of(cell(recipe="paper", k=10), BOTTLE)
    # 24 of 25 meta epochs have entries: 5 x 10 CutPaste images in each of 8 passes
    assert work["synthetic", "cutpaste"] == work["image", "paper"] == 24 * 8 * 50
    # (209 + 50 + 50) // 32 batches of 32 images, each of 64 x 64 vectors at level 1, 4096 a step; without entries 209 // 32
    assert work["step", "paper", 0] == 8 * (24 * 9 * 32 + 6 * 32)
    assert work["evaluation", "paper"] == 25 * 83
    without = work_of(cell(recipe="paper", k=0), BOTTLE)
    assert without["step", "paper", 2] == 8 * 25 * 6 * 2
    assert not without["synthetic", "cutpaste"]
    assert work_of(cell(recipe="paper", k=0, split="hard-cut"), BOTTLE) == {("evaluation", "paper"): 25 * 83}


def test_shared_work_counts_once():
    both = [cell(k=k, seed=seed) for k in (0, 1, 10) for seed in (0, 1)]
    assert shared_work(both, BOTTLE) == {("image", "cpu"): 292 + 2 * 10 * 10, ("synthetic", "cutpaste"): 2 * 10 * 10}
    of_paper = [cell(recipe=name) for name in ("paper", "corrected", "ablation-beta-0.1")]
    assert sum(shared_work(of_paper, BOTTLE).values()) == 292


def test_images_are_counted_in_a_copy_or_published(tmp_path):
    make_category(tmp_path, train=4, good=3, types={"cut": 3, "hole": 2})
    assert counts_of("own", Dataset(path=tmp_path), "bottle") == (4, 8)
    bottle = dataset("mvtec").counts["bottle"]
    assert counts_of("mvtec", Dataset(), "bottle") == (bottle["train"], sum(bottle.values()) - bottle["train"])
    make_category(tmp_path / "b", layout="btad", train=2, good=1, types={"ko": 1})
    assert counts_of("own", Dataset(path=tmp_path / "b", layout="btad"), "bottle") == (2, 2)


def test_recipes_of_the_same_sizes_are_timed_once():
    assert {alike(name) for name in ("paper", "corrected", "ablation-tau-0.2")} == {alike("paper")}
    assert len({alike(name) for name in ("paper", "cpu", "demo")}) == 3
