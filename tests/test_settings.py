"""Recipes, suites and the configuration: the repository's own files are valid, and a wrong key or value is named."""

import copy
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from bgad.config.cells import expand
from bgad.config.settings import Config, Dataset, Recipe, Suite, load_recipe, load_suite, read_yaml, validated
from bgad.data.layouts import catalogue
from bgad.errors import BgadError

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config/config.yaml"
RECIPES = sorted((ROOT / "config/recipes").glob("*.yaml"))
SUITES = sorted((ROOT / "config/suites").glob("*.yaml"))
FILES = [(CONFIG, Config), *((path, Recipe) for path in RECIPES), *((path, Suite) for path in SUITES)]
SCHEMAS = {Config: "config", Recipe: "recipe", Suite: "suite"}

PAPER = read_yaml(ROOT / "config/recipes/paper.yaml")
SUITE = {
    "title": "t",
    "question": "q",
    "grid": [{"recipe": "paper", "dataset": "mvtec", "splits": ["seen"], "k": [10], "methods": ["bgad"], "seeds": [0]}],
}
GONE = object()


def changed(values: dict, keys: str, value) -> dict:
    """A copy with ``value`` at ``keys`` (with dots), or without that key."""
    values = copy.deepcopy(values)
    *path, last = [int(key) if key.isdecimal() else key for key in keys.split(".")]
    place = values
    for key in path:
        place = place[key]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return values


def refusal(model, values) -> str:
    with pytest.raises(BgadError) as error:
        validated(model, values, "file.yaml")
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize(("path", "model"), FILES, ids=[path.name for path, _ in FILES])
def test_the_files_of_the_repository_are_valid(path, model):
    load = load_recipe if model is Recipe else lambda path: validated(model, read_yaml(path), path)
    assert isinstance(load(path), model)


def test_the_files_of_the_repository_name_each_other():
    config = validated(Config, read_yaml(CONFIG), CONFIG)
    assert sorted(config.suites) == [path.stem for path in SUITES]
    for path in SUITES:
        for block in load_suite(path).grid:
            assert block.recipe in {recipe.stem for recipe in RECIPES}, path
            assert block.dataset in config.datasets or path.stem == "tile", path  # which says how to name its folder
        if path.stem != "tile":
            assert expand(load_suite(path), lambda name: catalogue(name, config.datasets[name])), path


def test_the_paper_recipe_is_the_released_protocol():
    recipe = load_recipe(ROOT / "config/recipes/paper.yaml")
    assert (recipe.backbone, recipe.image_size) == ("tf_efficientnet_b6.aa_in1k", 256)
    assert recipe.flow.model_dump() == {"blocks": 8, "position_channels": 128, "clamp": 1.9}
    assert recipe.loss.model_dump() == {"normalizer": 10, "beta": 0.01, "tau": 0.1, "push_pull_weight": 1, "focal": True}
    schedule = recipe.schedule
    assert (schedule.meta_epochs, schedule.sub_epochs, schedule.warm_up_epochs) == (25, 8, 2)
    assert (schedule.learning_rate, schedule.final_rate, schedule.warm_up_from) == (2e-4, 1e-3, 0.1)
    assert (schedule.cosine, schedule.evaluate_every) == ("per_epoch", 1)
    assert recipe.sampling.model_dump() == {"kind": "image_batches", "images": 32, "vectors": 4096}
    assert recipe.anomalies.model_dump() == {"strategy": "repeat+cutpaste", "repeat": 5, "synthetic": "every_pass", "pool": 0}
    assert list(recipe.quirks.model_dump().values()) == [True] * 4


def test_the_corrected_recipe_is_the_papers_without_its_quirks():
    paper, corrected = (load_recipe(ROOT / f"config/recipes/{name}.yaml").model_dump() for name in ("paper", "corrected"))
    assert corrected.pop("quirks") == dict.fromkeys(paper.pop("quirks"), False)
    assert corrected == paper
    # The comments say where each value comes from, so the two files have to go on saying the same.
    lines = [
        (ROOT / f"config/recipes/{name}.yaml").read_text().split("backbone:")[1].split("quirks:")[0]
        for name in ("paper", "corrected")
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("name", "section", "key", "value"),
    [
        ("ablation-no-focal", "loss", "focal", False),
        ("ablation-beta-0.05", "loss", "beta", 0.05),
        ("ablation-beta-0.1", "loss", "beta", 0.1),
        ("ablation-tau-0.2", "loss", "tau", 0.2),
        ("ablation-tau-0.5", "loss", "tau", 0.5),
        ("ablation-normalizer-1", "loss", "normalizer", 1),
        ("ablation-normalizer-20", "loss", "normalizer", 20),
    ],
)
def test_an_ablation_changes_the_one_value_that_it_names(name, section, key, value):
    paper, other = (load_recipe(ROOT / f"config/recipes/{which}.yaml").model_dump() for which in ("paper", name))
    assert other[section].pop(key) == value != paper[section].pop(key)
    assert other == paper


def test_a_recipe_with_a_base_says_what_is_wrong_with_it(tmp_path):
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(PAPER))
    (tmp_path / "one.yaml").write_text("base: paper\nloss: {beta: 0.2}\n")
    (tmp_path / "two.yaml").write_text("base: one\n")
    (tmp_path / "three.yaml").write_text("base: papre\n")
    (tmp_path / "four.yaml").write_text("base: paper\nloss: {bata: 0.2}\n")
    assert load_recipe(tmp_path / "one.yaml").loss.beta == 0.2
    for name, named in {
        "two": r"two\.yaml.*one\.yaml.*paper",
        "three": r"papre\.yaml",
        "four": r"four\.yaml.*loss\.bata",
    }.items():
        with pytest.raises(BgadError, match=named):
            load_recipe(tmp_path / f"{name}.yaml")


def test_the_paper_suite_is_fifteen_categories_two_rows_and_three_seeds():
    cells = expand(load_suite(ROOT / "config/suites/paper.yaml"), lambda name: catalogue(name, Dataset()))
    assert len(cells) == 15 * 2 * 3
    assert {(cell.k, cell.method) for cell in cells} == {(10, "bgad"), (0, "bgad-wo")}
    assert {cell.seed for cell in cells} == {0, 42, 100}


@pytest.mark.parametrize(
    ("model", "values", "keys", "value", "named"),
    [
        (Recipe, PAPER, "image_sise", 256, "image_sise"),
        (Recipe, PAPER, "loss.bata", 0.1, "loss.bata"),
        (Recipe, PAPER, "sampling.vectorz", 9, "sampling.vectorz"),
        (Recipe, PAPER, "loss.beta", GONE, "loss.beta"),
        (Recipe, PAPER, "sampling.images", GONE, "sampling.images"),
        (Recipe, PAPER, "flow", GONE, "flow"),
        (Recipe, PAPER, "loss.beta", 1, "loss.beta"),
        (Recipe, PAPER, "loss.tau", float("nan"), "loss.tau"),
        (Recipe, PAPER, "image_size", 250, "image_size"),
        (Recipe, PAPER, "schedule.cosine", "daily", "schedule.cosine"),
        (Recipe, PAPER, "sampling.vectors", 8193, "sampling.vectors"),
        (Recipe, PAPER, "anomalies.synthetic", "pool", "anomalies"),
        (Recipe, PAPER, "anomalies.pool", 5, "anomalies"),
        (Recipe, PAPER, "anomalies.strategy", "0,1", "anomalies.strategy"),
        (Suite, SUITE, "grid.0.method", "bgad", "grid.0.method"),
        (Suite, SUITE, "grid.0.k", GONE, "grid.0.k"),
        (Suite, SUITE, "grid.0.k", [10, -1], "grid.0.k.1"),
        (Suite, SUITE, "grid.0.k", [0, 10], "grid.0"),
        (Suite, SUITE, "grid.0.methods", ["nf"], "grid.0"),
        (Suite, SUITE, "grid.0.methods", ["bgat"], "grid.0.methods.0"),
        (Suite, SUITE, "grid.0.methods", ["patchcore"], "grid.0"),
        # 01 in YAML is a number; BTAD's categories need quotes.
        (Suite, SUITE, "grid.0.categories", [1, 2], "grid.0.categories.0"),
        (Suite, SUITE, "grid.0.categories", "botle", "grid.0.categories"),
        (Suite, SUITE, "grid.0.recipe", "../paper", "grid.0.recipe"),
        (Suite, SUITE, "grid", [], "grid"),
        (Config, read_yaml(CONFIG), "suite", [], "suite"),
        (Config, read_yaml(CONFIG), "datasets.mvtec.pth", "x", "datasets.mvtec.pth"),
        (Config, read_yaml(CONFIG), "datasets.mvtec.layout", "visa", "datasets.mvtec.layout"),
        (Config, read_yaml(CONFIG), "datasets.my data", {}, "datasets.my data"),
        (Config, read_yaml(CONFIG), "datasets.mvtec.pool", -1, "datasets.mvtec.pool"),
    ],
)
def test_a_wrong_key_or_value_is_named(model, values, keys, value, named):
    validated(model, values, "file.yaml")
    assert re.search(rf"^file\.yaml: .*{re.escape(named)}\b", refusal(model, changed(values, keys, value)))


def test_of_several_mistakes_one_is_named():
    values = changed(changed(PAPER, "loss.bata", 1), "image_size", "big")
    assert refusal(Recipe, values).startswith("file.yaml: image_size: ")


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_a_file_that_holds_something_else_is_named(values):
    assert refusal(Recipe, values).startswith("file.yaml: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "recipe.yaml"
    with pytest.raises(BgadError, match=re.escape(str(path))):
        load_recipe(path)
    path.write_text("backbone: x\nflow: {blocks: 8\n")
    with pytest.raises(BgadError, match=rf"{re.escape(str(path))}.*line 3"):
        load_recipe(path)
    path.write_bytes("title: Größe".encode("latin-1"))
    with pytest.raises(BgadError, match=rf"{re.escape(str(path))}.*UTF-8"):
        load_suite(path)


def test_comments_and_order_do_not_change_the_hash_of_a_recipe_but_values_do(tmp_path):
    path = tmp_path / "recipe.yaml"
    before = load_recipe(ROOT / "config/recipes/paper.yaml").sha256

    def reversed_keys(values):
        return {k: reversed_keys(v) for k, v in reversed(values.items())} if isinstance(values, dict) else values

    path.write_text("# Another comment\n" + yaml.safe_dump(reversed_keys(PAPER), sort_keys=False))
    assert load_recipe(path).sha256 == before
    path.write_text(yaml.safe_dump(changed(PAPER, "loss.normalizer", 10.0)))
    assert load_recipe(path).sha256 == before

    hashes = {before}
    for keys, value in {
        "backbone": "resnet18",
        "image_size": 224,
        "flow.clamp": 2.0,
        "loss.focal": False,
        "schedule.learning_rate": 2.1e-4,
        "schedule.cosine": "per_step",
        "sampling.images": 31,
        "anomalies.repeat": 9,
        "quirks.idle_levels_keep_momentum": False,
    }.items():
        path.write_text(yaml.safe_dump(changed(PAPER, keys, value)))
        hashes.add(load_recipe(path).sha256)
    assert len(hashes) == 10


def schema(model) -> dict:
    return yaml.safe_load((ROOT / f"workflow/schemas/{SCHEMAS[model]}.schema.yaml").read_text())


def test_the_schemas_are_those_of_the_typed_objects():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "workflow/schemas/generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert set(generate.SCHEMAS.values()) == set(SCHEMAS)
    for name, model in generate.SCHEMAS.items():
        stored = (ROOT / "workflow/schemas" / name).read_text()
        assert stored == generate.text_of(model), f"run python workflow/schemas/generate.py: {name} is out of date"


@pytest.mark.parametrize(("path", "model"), FILES, ids=[path.name for path, _ in FILES])
def test_the_schemas_accept_the_files_of_the_repository(path, model):
    jsonschema.Draft202012Validator.check_schema(schema(model))
    jsonschema.validate(read_yaml(path), schema(model), jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("model", "values", "keys"),
    [
        (Recipe, PAPER, "image_sise"),
        (Recipe, PAPER, "loss.bata"),
        (Recipe, {"base": "paper", "loss": {"beta": 0.2}}, "loss.bata"),
        (Suite, SUITE, "grid.0.method"),
        (Config, read_yaml(CONFIG), "sede"),
        (Config, read_yaml(CONFIG), "datasets.mvtec.pth"),
    ],
)
def test_the_schemas_refuse_a_wrong_key_by_its_name(model, values, keys):
    with pytest.raises(jsonschema.ValidationError) as error:
        jsonschema.validate(changed(values, keys, 1), schema(model), jsonschema.Draft202012Validator)
    assert f"'{keys.split('.')[-1]}' was unexpected" in error.value.message


def keys_of(model, prefix="") -> Iterator[str]:
    """Every key of a settings object as config/README.md writes it: a.b, a.<name>.b, a[].b."""
    for name, field in model.model_fields.items():
        yield from keys_of_type(field.annotation, prefix + name)


def keys_of_type(annotation, key: str) -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from keys_of(annotation, f"{key}.")
        return
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is dict:
        yield from keys_of_type(inner[1], f"{key}.<name>")
    elif origin is list and isinstance(inner[0], type) and issubclass(inner[0], BaseModel):
        yield key
        yield from keys_of_type(inner[0], f"{key}[]")
    elif origin in (Union, UnionType) and any(isinstance(t, type) and issubclass(t, BaseModel) for t in inner):
        for one in inner:
            yield from keys_of_type(one, key)
    else:
        yield key


def test_the_readme_of_the_configuration_lists_every_key_and_no_other():
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    listed = {re.sub(r" \(.*\)", "", key) for key in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)}
    keys = {key for model in (Config, Suite, Recipe) for key in keys_of(model)}
    assert {re.sub(r"<\w+>", "<name>", key) for key in listed} == {*keys, "base"}
