# What all rules share: the configuration, and the functions that turn wildcards into files and settings.
import gc
import json
import os
import re
import shlex
import sys
from dataclasses import asdict
from functools import cache, wraps
from pathlib import Path

# Steps use the interpreter that runs Snakemake, here and on a cluster, with or without an activated environment. With conda
# deployment the rule's environment comes first.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]))
# Snakemake runs steps in parallel; more threads in a numerical library would only take cores from them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A plan keeps all its objects, so there is no garbage; looking for it among thousands of cells took a tenth of the planning time.
gc.set_threshold(100_000)

from bgad.config import cells, methods, paths, settings
from bgad.config.gpu_share import has_gpu, percent_of_gpu
from bgad.config.names import from_path, shown
from bgad.config.plain_yaml import read_yaml
from bgad.config.provenance import method_sha256, source_sha256
from bgad.data import layouts, splits
from bgad.data.content import content_sha256
from bgad.data.download import presets
from bgad.errors import BgadError, ConfigError
from bgad.io import check_room


def or_exit(function):
    """Ends Snakemake with the sentence of any BgadError from ``function``; Snakemake itself would print a traceback."""

    @wraps(function)
    def checked(*arguments):
        try:
            return function(*arguments)
        except BgadError as error:
            print(f"error: {shown(error)}", file=sys.stderr)
            raise SystemExit(1) from None

    return checked


# On a full disk Snakemake would end in a traceback.
for folder in (".snakemake", "results", "resources"):
    if os.path.exists(folder):
        or_exit(check_room)(Path(folder))
# Snakemake would run a template (__use_yte__) as a program. This accepts plain YAML only.
or_exit(read_yaml)("config/config.yaml")


configfile: "config/config.yaml"


CONFIG = or_exit(settings.validated)(settings.Config, config, "config")
RECIPES = sorted(path.stem for path in Path("config/recipes").glob("*.yaml"))
DATASETS_JSON = json.dumps({name: d.model_dump(mode="json") for name, d in CONFIG.datasets.items()})
# GPUs of a step that computes, for clusters.
GPUS = int(has_gpu() if CONFIG.device == "auto" else CONFIG.device != "cpu")
# Percent of a GPU's memory that such a step needs; the default profile has 100 to give.
GPU_PERCENT = percent_of_gpu(CONFIG.gpu_mb) if GPUS else 0

# What this run was asked for: the tables, by suite, and the suites with a page.
TABLES = {}
PAGES = set()


wildcard_constraints:
    recipe="|".join(map(re.escape, RECIPES)),
    dataset="|".join(map(re.escape, CONFIG.datasets)),
    suite="|".join(map(re.escape, CONFIG.suites)),
    category="[^/]+",
    split="seen|hard-[^/]+",
    k=r"0|[1-9]\d*",
    method="|".join(map(re.escape, methods.names())),
    seed=r"0|[1-9]\d*",
    image_size=r"\d+",
    kind="cutpaste|pseudo",
    draws="own|in-a-row",
    known=r"\d+",
    each=r"\d+",
    backbone="[^/]+",


@cache
@or_exit
def recipe_of(name):
    return settings.load_recipe(paths.recipe_file(name))


@cache
@or_exit
def suite_of(name):
    return settings.load_suite(paths.suite_file(name))


@cache
@or_exit
def catalogue_of(dataset):
    """The categories of a data set, each with its defect types."""
    if dataset not in CONFIG.datasets:
        raise ConfigError(
            f"config: unknown data set {dataset}; add it to datasets, or use one of {', '.join(CONFIG.datasets)}."
        )
    return layouts.catalogue(dataset, CONFIG.datasets[dataset])


@cache
@or_exit
def cells_of(suite):
    return cells.expand(suite_of(suite), catalogue_of)


@cache
def recipe_sha256_of(recipe):
    return recipe_of(recipe).sha256


method_sha256_of = or_exit(method_sha256)


@or_exit
def names_of(wildcards):
    """The names behind the wildcards, which are parts of paths."""
    return {key: from_path(part) for key, part in wildcards.items()}


def settings_of(dataset):
    """What decides an index: the settings of a data set as plain values, except its path and the size of its pool."""
    return CONFIG.datasets[dataset].model_dump(mode="json", exclude={"path", "pool"})


def root_of(wildcards, input):
    """The folder of a data set: the user's copy, or where the workflow downloads or makes it.

    Because it takes ``input``, a new place is no reason for Snakemake to run a step again: only the content decides.
    """
    given = CONFIG.datasets[wildcards.dataset].path
    return str(given) if given else paths.DATASET.format(dataset=wildcards.dataset)


def weights_option(backbone):
    """`--weights FILE` if the configuration names a local file for the backbone."""
    given = CONFIG.weights.get(backbone)
    return f"--weights {shlex.quote(str(given))}" if given else ""


@or_exit
def images_of(wildcards):
    """The input of a category's index: the output of the step that downloads or makes the images.

    A user's own files are not inputs: Snakemake would compare their dates and take their names for patterns. See content_of.
    """
    name, category = wildcards.dataset, names_of(wildcards)["category"]
    if category not in catalogue_of(name):
        raise ConfigError(f"data set {name} has no category {category}; it has {', '.join(catalogue_of(name))}.")
    if CONFIG.datasets[name].path is not None:
        return []
    folder = paths.DATASET.format(dataset=name)
    return f"{folder}/{category}" if name == "mini" else f"{folder}.complete"


def content_of(wildcards):
    """The hash of a category's files in the user's copy: if it changes, steps run again."""
    return content_hash(wildcards.dataset, names_of(wildcards)["category"])


@cache
@or_exit
def content_hash(dataset, category):
    root = CONFIG.datasets[dataset].path
    record = Path(paths.CONTENT.format(dataset=dataset, category=category))
    return "" if root is None else content_sha256(root / category, record)


@or_exit
def indexes_before(wildcards):
    """The categories that the released code draws before this one."""
    if wildcards.draws == "own":
        return []
    categories, category = list(catalogue_of(wildcards.dataset)), names_of(wildcards)["category"]
    before = categories[: categories.index(category)] if category in categories else []
    return [paths.INDEX.format(dataset=wildcards.dataset, category=name) for name in before]


def in_a_row_option(wildcards, input):
    """`--in-a-row --before INDEX ...` for the released code's draws."""
    if wildcards.draws == "own":
        return ""
    return " ".join(["--in-a-row", *(f"--before {shlex.quote(path)}" for path in input.before)])


@or_exit
def inputs_of(wildcards):
    """The inputs of a cell by name: its split, the features for its recipe, its pools of synthetic images, and with k 0 on
    hard-<type> the model and scores of the cell that trains for it.

    One function for all of them: Snakemake's time per input function adds up over thousands of cells. A cache is represented by
    its record, which is written last.
    """
    names = names_of(wildcards)
    cell = cells.Cell(**names | {"k": int(wildcards.k), "seed": int(wildcards.seed)})
    cells.check(cell, catalogue_of)
    recipe = recipe_of(wildcards.recipe)
    features = paths.FEATURES.format(**names, backbone=recipe.backbone, image_size=recipe.image_size)
    inputs = {"split": splits.file_of(recipe, names), "features": f"{features}/features.json", **pools_of(names, recipe)}
    # With too few anomalies for a pool there is no split seen, so the cell trains for itself.
    if cell.training != cell and sum(catalogue_of(cell.dataset)[cell.category].values()) > CONFIG.datasets[cell.dataset].pool:
        inputs |= {"model": cell.training.folder / "model.pt", "trained": cell.training.folder / paths.SCORED}
    return inputs


def pools_of(names, recipe):
    """The pool of each kind of synthetic images that a cell draws from. Cells with k 0 and detectors have none."""
    k = int(names["k"])
    if k == 0 or names["method"] not in methods.PAPER_METHODS or recipe.anomalies.synthetic != "pool":
        return {}
    known = max(k, CONFIG.datasets[names["dataset"]].pool)
    where = {"backbone": recipe.backbone, "image_size": recipe.image_size, "known": known, "each": recipe.anomalies.pool}
    where["draws"] = splits.draws(recipe, names["split"])
    return {kind: f"{paths.SYNTHETIC.format(**names, **where, kind=kind)}/features.json" for kind in recipe.anomalies.kinds}


def caches_option(wildcards, input):
    """`--features FOLDER`, `--cutpaste FOLDER` or `--pseudo FOLDER` for a cell's pools, `--trained FOLDER`."""
    records = {name: input[name] for name in ("features", "cutpaste", "pseudo", "trained") if name in input.keys()}
    return " ".join(f"--{name} {shlex.quote(str(Path(record).parent))}" for name, record in records.items())


def workers_of(wildcards):
    """A cell's processes for synthetic images: on a GPU, if it has new ones in each pass."""
    every_pass = int(wildcards.k) > 0 and recipe_of(wildcards.recipe).anomalies.synthetic == "every_pass"
    return CONFIG.workers if GPUS and every_pass else 0


def cores_of(wildcards):
    """A cell's threads and workers."""
    return CONFIG.threads + workers_of(wildcards)


def metrics_of(wildcards):
    """The metrics of every cell of a suite; the paper suite's table at the top has no wildcard."""
    return metrics_files(getattr(wildcards, "suite", "paper"))


@cache
def metrics_files(suite):
    return [(cell.folder / "metrics.json").as_posix() for cell in cells_of(suite)]


def metrics_for_table(wildcards, output):
    TABLES[getattr(wildcards, "suite", "paper")] = output
    return metrics_of(wildcards)


def metrics_for_page(wildcards):
    PAGES.add(wildcards.suite)
    return metrics_of(wildcards)


def splits_with_examples(wildcards):
    """Index and split of each category in a suite that has known anomalies."""
    examples = [asdict(cell) for cell in cells.with_examples(cells_of(wildcards.suite))]
    indexes = [paths.INDEX.format(**names) for names in examples]
    return indexes + [splits.file_of(recipe_of(names["recipe"]), names) for names in examples]


def remove_checkpoints():
    """A cell's last checkpoint is its trained model. It is only needed if a run is killed before Snakemake records the cell."""
    for metrics in Path("results").glob("*/*/*/*/*/*/*/metrics.json"):
        metrics.with_name("checkpoint.pt").unlink(missing_ok=True)
