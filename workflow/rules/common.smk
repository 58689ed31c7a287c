# What all rules share: the configuration, checked once, and the look-ups that turn wildcards into files and settings.
import json
import os
import re
import shlex
import sys
from functools import cache, wraps
from pathlib import Path

# The interpreter that runs Snakemake also runs the steps, here and in jobs sent elsewhere, with or without an activated
# environment; with conda deployment the rule's own environment comes first.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# Beside Snakemake's own parallelism, a numerical library's idle threads only take cores from other jobs.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from bgad import cells, datasets, paths, presets, settings, splits
from bgad.errors import BgadError
from bgad.sources import source_sha256


def at_the_door(function):
    """`function`, whose BgadErrors end the run: with their one sentence, where Snakemake would wrap it in its own trace."""

    @wraps(function)
    def checked(*arguments):
        try:
            return function(*arguments)
        except BgadError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None

    return checked


CONFIG = at_the_door(settings.validated)(settings.Config, config, "config")
RECIPES = sorted(path.stem for path in Path("config/recipes").glob("*.yaml"))
DATASETS_JSON = json.dumps({name: d.model_dump(mode="json") for name, d in CONFIG.datasets.items()})
# What each step that computes asks for; `--resources gpu=N` or the profile says how many there are.
GPUS = int(Path("/dev/nvidia0").exists() if CONFIG.device == "auto" else CONFIG.device != "cpu")

# The suites whose tables this run asked for, with the file of each table.
REQUESTED = {}


wildcard_constraints:
    recipe="|".join(map(re.escape, RECIPES)),
    dataset="|".join(map(re.escape, CONFIG.datasets)),
    suite="|".join(map(re.escape, CONFIG.suites)),
    category="[^/]+",
    split="seen|hard-[^/]+",
    k=r"0|[1-9]\d*",
    method="bgad|bgad-wo|nf",
    seed=r"0|[1-9]\d*",
    image_size=r"\d+",
    kind="cutpaste|pseudo",
    draws="own|in-a-row",
    known=r"\d+",
    each=r"\d+",
    backbone="[^/]+",


@cache
@at_the_door
def recipe_of(name):
    return settings.load_recipe(paths.recipe_file(name))


@cache
@at_the_door
def suite_of(name):
    return settings.load_suite(paths.suite_file(name))


@cache
@at_the_door
def catalogue_of(dataset):
    """Categories and types of a data set."""
    if dataset not in CONFIG.datasets:
        raise BgadError(
            f"config: there is no data set {dataset}; add it to datasets, or use one of {', '.join(CONFIG.datasets)}."
        )
    return datasets.catalogue(dataset, CONFIG.datasets[dataset])


@cache
def cells_of(suite):
    return at_the_door(cells.expand)(suite_of(suite), catalogue_of)


def settings_of(dataset):
    """The settings of a data set but for its place, as plain values."""
    return CONFIG.datasets[dataset].model_dump(mode="json", exclude={"path"})


def root_of(wildcards):
    """The folder of a data set: a copy that is already there, or where it is downloaded or made."""
    given = CONFIG.datasets[wildcards.dataset].path
    return str(given) if given else paths.DATASET.format(dataset=wildcards.dataset)


@at_the_door
def images_of(wildcards):
    """What the index of a category depends on: its files, where a copy is there; else the step that brings them."""
    name, category = wildcards.dataset, wildcards.category
    if category not in catalogue_of(name):
        raise BgadError(f"data set {name} has no category {category}; it has {', '.join(catalogue_of(name))}.")
    if CONFIG.datasets[name].path is None:
        folder = paths.DATASET.format(dataset=name)
        return f"{folder}/{category}" if name == "mini" else f"{folder}.complete"
    folder = Path(root_of(wildcards)) / category
    parts = ("train", "test", "ground_truth")
    return [str(path) for part in parts for path in datasets.image_files(folder, part)]


@at_the_door
def features_of(wildcards):
    """The feature cache that a cell's recipe needs, by its record, which is written last."""
    names = dict(wildcards.items())
    cells.check(cells.Cell(**names | {"k": int(wildcards.k), "seed": int(wildcards.seed)}), catalogue_of)
    recipe = recipe_of(wildcards.recipe)
    return paths.FEATURES.format(**names, backbone=recipe.backbone, image_size=recipe.image_size) + "/features.json"


def split_of(wildcards):
    return splits.file_of(recipe_of(wildcards.recipe), dict(wildcards.items()))


@at_the_door
def indexes_before(wildcards):
    """The categories that the released code draws before this one."""
    if wildcards.draws == "own":
        return []
    categories = list(catalogue_of(wildcards.dataset))
    before = categories[: categories.index(wildcards.category)] if wildcards.category in categories else []
    return [paths.INDEX.format(dataset=wildcards.dataset, category=category) for category in before]


def in_a_row_option(wildcards, input):
    """`--in-a-row --before INDEX ...` for the released code's draws."""
    if wildcards.draws == "own":
        return ""
    return " ".join(["--in-a-row", *(f"--before {shlex.quote(path)}" for path in input.before)])


@at_the_door
def pool_of(wildcards, kind):
    """The pool of a kind of synthetic images that a cell draws from, if it knows anomalies and its recipe has such a pool."""
    recipe, k = recipe_of(wildcards.recipe), int(wildcards.k)
    if k == 0 or recipe.anomalies.synthetic != "pool" or kind not in recipe.anomalies.kinds:
        return []
    known = max(k, CONFIG.datasets[wildcards.dataset].pool)
    where = {"backbone": recipe.backbone, "image_size": recipe.image_size, "known": known, "each": recipe.anomalies.pool}
    where |= {"kind": kind, "draws": splits.draws(recipe, wildcards.split)}
    return paths.SYNTHETIC.format(**dict(wildcards.items()), **where) + "/features.json"


def pool_option(record, kind):
    """`--cutpaste FOLDER` or `--pseudo FOLDER`, where a cell has such a pool."""
    return f"--{kind} {shlex.quote(str(Path(record).parent))}" if record else ""


def weights_option(backbone):
    """`--weights FILE` where the configuration names a local file for that backbone."""
    given = CONFIG.weights.get(backbone)
    return f"--weights {shlex.quote(str(given))}" if given else ""
