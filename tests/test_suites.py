"""The suites of the project: how many cells each has, counted by hand, and some of them."""

from collections import Counter
from pathlib import Path

import pytest

from bgad.config.cells import Cell, expand, left_out
from bgad.config.settings import Config, Dataset, load_suite, read_yaml, validated
from bgad.data.layouts import catalogue

ROOT = Path(__file__).resolve().parent.parent
FILES = {path.stem: path for path in (ROOT / "config/suites").glob("*.yaml")}
RECIPES = {path.stem for path in (ROOT / "config/recipes").glob("*.yaml")}
RUNS = 3  # seeds 0, 42 and 100
CATEGORIES = 15  # of MVTec AD
# MVTec AD has 73 defect types; toothbrush has one, which can be in no hard split.
HARD_TYPES = 73 - 1

# name: (number of cells, some of its cells, some others), cells by their folders
SUITES = {
    # seen: 4 categories x (4 methods with k 0, k 1 and k 10); hard-scratch: 2 categories x 2 k
    "demo": (
        4 * (4 + 2) + 2 * 2,
        ["demo/mini/coins/hard-scratch/k10/bgad/seed0", "demo/mini/grass/seen/k0/padim/seed0"],
        ["demo/mini/grass/hard-scratch/k10/bgad/seed0"],
    ),
    "paper": (
        CATEGORIES * 2 * RUNS,
        ["paper/mvtec/zipper/seen/k10/bgad/seed42", "paper/mvtec/toothbrush/seen/k0/bgad-wo/seed100"],
        ["paper/mvtec/zipper/seen/k1/bgad/seed42", "paper/mvtec/bottle/seen/k0/nf/seed0"],
    ),
    # three methods with k 0, and k 10
    "baselines": (
        CATEGORIES * 4 * RUNS,
        ["paper/mvtec/screw/seen/k0/patchcore/seed42", "paper/mvtec/screw/seen/k10/bgad/seed42"],
        ["paper/mvtec/screw/seen/k10/patchcore/seed42"],
    ),
    # the same row with two recipes
    "corrected": (
        CATEGORIES * 2 * RUNS,
        ["corrected/mvtec/cable/seen/k10/bgad/seed42", "paper/mvtec/cable/seen/k10/bgad/seed42"],
        ["corrected/mvtec/cable/seen/k0/bgad-wo/seed42"],
    ),
    # k 0, 1, 3, 5 and 10
    "counts": (
        CATEGORIES * 5 * RUNS,
        [f"paper/mvtec/wood/seen/k{k}/{'bgad' if k else 'bgad-wo'}/seed0" for k in (0, 1, 3, 5, 10)],
        ["paper/mvtec/wood/seen/k2/bgad/seed0"],
    ),
    # every type with k 0, 1 and 10, but for the two that have fewer than 10 images
    "unseen": (
        (HARD_TYPES + HARD_TYPES + HARD_TYPES - 2) * RUNS,
        [
            "paper/mvtec/carpet/hard-color/k10/bgad/seed0",
            "paper/mvtec/metal_nut/hard-flip/k1/bgad/seed42",
            "paper/mvtec/transistor/hard-misplaced/k10/bgad/seed0",  # it has exactly ten
            "paper/mvtec/wood/hard-color/k1/bgad/seed100",
            "paper/mvtec/wood/hard-color/k0/bgad-wo/seed100",
            "paper/mvtec/pill/hard-pill_type/k1/bgad/seed0",
        ],
        [
            "paper/mvtec/wood/hard-color/k10/bgad/seed100",
            "paper/mvtec/pill/hard-pill_type/k10/bgad/seed0",
            "paper/mvtec/toothbrush/hard-defective/k1/bgad/seed0",
            "paper/mvtec/carpet/seen/k10/bgad/seed0",
        ],
    ),
    # 4 rows of parts, of which paper has the last, and 2 values each of beta, tau and the normalizer
    "ablation": (
        CATEGORIES * (4 + 2 + 2 + 2) * RUNS,
        [
            "ablation-no-focal/mvtec/tile/seen/k0/nf/seed0",
            "ablation-no-focal/mvtec/tile/seen/k0/bgad-wo/seed0",
            "ablation-no-focal/mvtec/tile/seen/k10/bgad/seed0",
            "paper/mvtec/tile/seen/k10/bgad/seed0",
            "ablation-beta-0.05/mvtec/tile/seen/k10/bgad/seed42",
            "ablation-tau-0.5/mvtec/tile/seen/k10/bgad/seed42",
            "ablation-normalizer-20/mvtec/tile/seen/k10/bgad/seed42",
        ],
        ["paper/mvtec/tile/seen/k0/nf/seed0", "paper/mvtec/tile/seen/k0/bgad-wo/seed0"],
    ),
    "btad": (
        3 * 2 * RUNS,
        ["paper/btad/03/seen/k10/bgad/seed42", "paper/btad/01/seen/k0/bgad-wo/seed0"],
        ["paper/btad/03/hard-ko/k10/bgad/seed42"],
    ),
    # 7 categories with 4 methods at k 0, and k 1, 5 and 10; hard types (3, 4 and 5 of MVTec AD's, one of each of mini) with k 0
    # and 10; 3 seeds
    "claim": (
        (7 * (4 + 3) + (3 + 4 + 5 + 4) * 2) * 3,
        [
            "cpu/mvtec/transistor/hard-misplaced/k10/bgad/seed2",
            "cpu/mvtec/screw/seen/k0/padim/seed1",
            "cpu/mini/gravel/hard-scratch/k0/bgad-wo/seed0",
        ],
        ["cpu/mvtec/bottle/hard-broken_small/k5/bgad/seed0", "cpu/mvtec/cable/seen/k10/bgad/seed0"],
    ),
    # one category with five types, as a suite above
    "tile": (
        ((4 + 3) + 5 * 2) * 3,
        ["cpu/magnetic/tile/hard-fray/k10/bgad/seed2"],
        ["cpu/magnetic/tile/hard-fray/k1/bgad/seed2"],
    ),
    # two recipes x 7 categories x k 0 and 10
    "convergence": (2 * 7 * 2, ["cpu-x2/mvtec/screw/seen/k0/bgad-wo/seed0"], ["cpu-x2/mvtec/screw/seen/k0/nf/seed0"]),
    "fast": (2 * 2, ["paper-lite0/mvtec/transistor/seen/k10/bgad/seed0"], ["paper/mvtec/bottle/seen/k10/bgad/seed0"]),
}


def known(dataset: str) -> dict[str, dict[str, int]]:
    if dataset == "magnetic":
        return {"tile": {"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 99}}
    return catalogue(dataset, Dataset())


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_the_cells_that_its_grid_says(name):
    count, there, not_there = SUITES[name]
    cells = expand(load_suite(FILES[name]), known)
    assert len(cells) == len(set(cells)) == count
    folders = {cell.folder.as_posix().removeprefix("results/") for cell in cells}
    assert not set(there) - folders
    assert not set(not_there) & folders


def test_the_seeds_and_categories_are_the_same_for_every_row_of_a_table():
    """Rows over different runs or categories cannot be compared."""
    for name in ("paper", "baselines", "corrected", "counts", "ablation", "btad"):
        rows = {}
        for cell in expand(load_suite(FILES[name]), known):
            rows.setdefault((cell.recipe, cell.k, cell.method), set()).add((cell.category, cell.seed))
        assert all(row == {(c, s) for c in known(cell.dataset) for s in (0, 42, 100)} for row in rows.values()), name


def test_unseen_has_a_split_for_every_type():
    cells = expand(load_suite(FILES["unseen"]), known)
    splits = {(cell.category, cell.split) for cell in cells}
    types = {(category, f"hard-{kind}") for category, kinds in known("mvtec").items() for kind in kinds}
    assert types - splits == {("toothbrush", "hard-defective")}
    assert not splits - types
    assert Counter(cell.k for cell in cells) == {0: 72 * 3, 1: 72 * 3, 10: 70 * 3}


def test_unseen_names_what_it_leaves_out():
    assert left_out(load_suite(FILES["unseen"]), known) == [
        "pill hard-pill_type k10: the type has 9 images",
        "toothbrush hard-*: its only type leaves none to test on",
        "wood hard-color k10: the type has 8 images",
    ]


@pytest.mark.parametrize("name", sorted(set(SUITES) - {"unseen"}))
def test_other_suites_leave_nothing_out(name):
    assert left_out(load_suite(FILES[name]), known) == []


def test_the_published_comparison_is_complete():
    """DRA and AHL publish each type of carpet and of metal_nut, with one and with ten known anomalies, three runs."""
    cells = set(expand(load_suite(FILES["unseen"]), known))
    types = {
        "carpet": ["color", "cut", "hole", "metal_contamination", "thread"],
        "metal_nut": ["bent", "color", "flip", "scratch"],
    }
    for category, kinds in types.items():
        for kind in kinds:
            for k in (1, 10):
                wanted = {Cell("paper", "mvtec", category, f"hard-{kind}", k, "bgad", seed) for seed in (0, 42, 100)}
                assert wanted < cells


def test_every_recipe_and_data_set_that_a_suite_names_exists():
    datasets = validated(Config, read_yaml(ROOT / "config/config.yaml"), "config/config.yaml").datasets
    named = {name: {(block.recipe, block.dataset) for block in load_suite(path).grid} for name, path in FILES.items()}
    missing = {name: {recipe for recipe, _ in pairs} - RECIPES for name, pairs in named.items()}
    assert not any(missing.values()), missing
    elsewhere = {"magnetic"}  # suite tile says how to name its folder
    assert {dataset for pairs in named.values() for _, dataset in pairs} <= datasets.keys() | elsewhere
