"""Cells and their folders, and the suites that expand to them."""

import pytest

from bgad.config.cells import Cell, check, expand, left_out
from bgad.config.settings import Block, Suite
from bgad.errors import ConfigError

CATALOGUE = {
    "mvtec": {
        "bottle": {"broken": 20, "contamination": 21},
        "toothbrush": {"defective": 30},
        "zipper": {"rough": 17, "split": 18, "fabric": 10},
    },
    "btad": {"01": {"ko": 49}},
    "own": {"wood": {"color": 8, "hole": 10, "seen": 1, "scratch": 21}, "plain": {}},
}
CELL = Cell("paper", "mvtec", "bottle", "hard-broken", 10, "bgad", 42)


def suite(*blocks: dict) -> Suite:
    values = {"recipe": "paper", "dataset": "mvtec", "splits": ["seen"], "k": [10], "methods": ["bgad"], "seeds": [0]}
    return Suite(title="Suite of the test", question="?", grid=[Block(**values | block) for block in blocks])


def folders(*blocks: dict) -> list[str]:
    return [cell.folder.as_posix() for cell in expand(suite(*blocks), CATALOGUE.__getitem__)]


def test_a_block_is_every_combination_in_order():
    cells = expand(suite({"categories": ["zipper", "bottle"], "k": [1, 10], "seeds": [0, 42]}), CATALOGUE.__getitem__)
    assert cells == [
        Cell("paper", "mvtec", category, "seen", k, "bgad", seed)
        for category in ("zipper", "bottle")
        for k in (1, 10)
        for seed in (0, 42)
    ]


def test_all_categories_are_those_of_the_catalogue():
    assert folders({}) == [
        "results/paper/mvtec/bottle/seen/k10/bgad/seed0",
        "results/paper/mvtec/toothbrush/seen/k10/bgad/seed0",
        "results/paper/mvtec/zipper/seen/k10/bgad/seed0",
    ]


def test_hard_star_is_each_type_in_turn_but_not_an_only_type():
    assert folders({"splits": ["seen", "hard-*"]}) == [
        "results/paper/mvtec/bottle/seen/k10/bgad/seed0",
        "results/paper/mvtec/bottle/hard-broken/k10/bgad/seed0",
        "results/paper/mvtec/bottle/hard-contamination/k10/bgad/seed0",
        "results/paper/mvtec/toothbrush/seen/k10/bgad/seed0",
        "results/paper/mvtec/zipper/seen/k10/bgad/seed0",
        "results/paper/mvtec/zipper/hard-rough/k10/bgad/seed0",
        "results/paper/mvtec/zipper/hard-split/k10/bgad/seed0",
        "results/paper/mvtec/zipper/hard-fabric/k10/bgad/seed0",
    ]


def test_cells_that_several_blocks_name_are_there_once():
    named = folders(
        {"categories": ["bottle"], "splits": ["hard-broken", "hard-*"]},
        {"categories": ["bottle", "bottle"], "splits": ["hard-broken", "seen"]},
        {"dataset": "btad", "k": [0], "methods": ["bgad-wo", "nf"]},
    )
    assert named == [
        "results/paper/mvtec/bottle/hard-broken/k10/bgad/seed0",
        "results/paper/mvtec/bottle/hard-contamination/k10/bgad/seed0",
        "results/paper/mvtec/bottle/seen/k10/bgad/seed0",
        "results/paper/btad/01/seen/k0/bgad-wo/seed0",
        "results/paper/btad/01/seen/k0/nf/seed0",
    ]


def test_hard_star_passes_over_a_type_that_has_fewer_images_than_k():
    block = {"dataset": "own", "categories": ["wood"], "splits": ["hard-*"], "k": [1, 8, 9, 10, 11]}
    by_split = {}
    for cell in expand(suite(block), CATALOGUE.__getitem__):
        by_split.setdefault(cell.split, []).append(cell.k)
    assert by_split == {
        "hard-color": [1, 8],
        "hard-hole": [1, 8, 9, 10],
        "hard-seen": [1],
        "hard-scratch": [1, 8, 9, 10, 11],
    }
    # k 0 needs none, and neither the pool nor the other splits of the category mind.
    assert folders({"dataset": "own", "categories": ["wood"], "splits": ["seen"], "k": [22]}) == [
        "results/paper/own/wood/seen/k22/bgad/seed0"
    ]
    assert len(folders(block | {"k": [0], "methods": ["bgad-wo"]})) == 4


def test_what_was_left_out_is_said_once():
    blocks = [
        {"dataset": "own", "splits": ["seen", "hard-*"], "k": [1, 10], "seeds": [0, 42]},
        {"dataset": "own", "splits": ["hard-*"], "k": [9], "methods": ["bgad"]},
        {"dataset": "own", "splits": ["hard-*"], "k": [0], "methods": ["bgad-wo"]},
        {"splits": ["seen", "hard-*"]},
    ]
    assert left_out(suite(*blocks), CATALOGUE.__getitem__) == [
        "wood hard-color k10: the type has 8 images",
        "wood hard-seen k10: the type has 1 image",
        "plain hard-*: it has no defect types",
        "wood hard-color k9: the type has 8 images",
        "wood hard-seen k9: the type has 1 image",
        "toothbrush hard-*: its only type leaves none to test on",
    ]
    assert left_out(suite({"splits": ["seen"]}), CATALOGUE.__getitem__) == []


def test_a_type_named_with_a_k_that_it_cannot_give_is_refused():
    block = {"dataset": "own", "categories": ["wood"], "splits": ["hard-color"], "k": [1, 10]}
    for function in (expand, left_out):
        with pytest.raises(ConfigError, match=r"Suite of the test.*wood.*hard-color.*k 10.*8 images"):
            function(suite(block), CATALOGUE.__getitem__)
    assert len(folders(block | {"k": [1, 8]})) == 2


def test_an_unknown_category_is_named_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"mvtec.*\bbotle\b.*bottle, toothbrush, zipper"):
        folders({"categories": ["bottle", "botle"]})


@pytest.mark.parametrize("split", ["hard-rough", "broken", "unseen", "hard-", "hard", ""])
def test_an_unknown_split_is_named_with_those_that_there_are(split):
    with pytest.raises(ConfigError, match=rf"bottle.*split {split};.*broken, contamination"):
        folders({"categories": ["bottle"], "splits": ["seen", split]})


def test_check_names_the_cell_that_there_cannot_be():
    check(CELL, CATALOGUE.__getitem__)
    wrong = {
        "screw": Cell("paper", "mvtec", "screw", "seen", 10, "bgad", 0),
        "split hard-ko": Cell("paper", "mvtec", "bottle", "hard-ko", 10, "bgad", 0),
        "bgad-wo": Cell("paper", "mvtec", "bottle", "seen", 0, "bgad", 0),
        "method nf": Cell("paper", "mvtec", "bottle", "seen", 1, "nf", 0),
        "8 images": Cell("paper", "own", "wood", "hard-color", 9, "bgad", 0),
        "methods.0": Cell("paper", "mvtec", "bottle", "seen", 1, "bgda", 0),
    }
    for named, cell in wrong.items():
        with pytest.raises(ConfigError) as error:
            check(cell, CATALOGUE.__getitem__)
        assert named in str(error.value)
        assert cell.folder.as_posix() in str(error.value)


def test_a_cell_is_its_folder():
    assert CELL.folder.as_posix() == "results/paper/mvtec/bottle/hard-broken/k10/bgad/seed42"
    odd = Cell("my.recipe-2", "own", "Größe 5", "hard-tief {2}", 0, "bgad-wo", 0)
    for cell in (CELL, odd):
        assert Cell.of_folder(cell.folder) == cell
        assert Cell.of_folder("/home/someone/a project" / cell.folder) == cell
        assert Cell.of_folder(f"{cell.folder}/") == cell


@pytest.mark.parametrize(
    "path",
    [
        "",
        "results",
        "results/paper/mvtec/bottle/seen/k10/bgad",
        "results/paper/mvtec/bottle/seen/k10/bgad/seed0/metrics.json",
        "results/paper/mvtec/bottle/seen/10/bgad/seed0",
        "results/paper/mvtec/bottle/seen/kten/bgad/seed0",
        "results/paper/mvtec/bottle/seen/k-1/bgad/seed0",
        "results/paper/mvtec/bottle/seen/k10/bgad/seed",
        "results/paper/mvtec/bottle/seen/k10/bgad/seed0x",
        "results/paper/mvtec/sub/bottle/seen/k10/bgad/seed0",
        "old-results/paper/mvtec/bottle/seen/k10/bgad/seed0",
    ],
)
def test_what_is_no_folder_of_a_cell_is_refused(path):
    with pytest.raises(ConfigError, match="results/"):
        Cell.of_folder(path)


def test_a_folder_of_a_method_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match=r"bgad2.*bgad, bgad-wo, nf"):
        Cell.of_folder("results/paper/mvtec/bottle/seen/k10/bgad2/seed0")
