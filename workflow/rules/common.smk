# What all rules share: the configuration, checked once, and the look-ups that turn wildcards into files and settings.
import gc
import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import asdict
from functools import cache, wraps
from pathlib import Path

# The interpreter that runs Snakemake also runs the steps, here and in jobs sent elsewhere, with or without an activated
# environment; with conda deployment the rule's own environment comes first.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]))
# Beside Snakemake's own parallelism, a numerical library's idle threads only take cores from other jobs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A plan of thousands of cells is objects that all stay: to look through them for garbage again and again finds nothing and
# took a tenth of the time.
gc.set_threshold(100_000)

from bgad import attempts, finished, locks
from bgad.config import cells, methods, paths, settings
from bgad.config.gpu_share import has_gpu, percent_of_gpu
from bgad.config.names import shown
from bgad.config.provenance import method_sha256, source_sha256
from bgad.data import layouts, splits
from bgad.data.download import presets
from bgad.errors import BgadError


def at_the_door(function):
    """`function`, whose BgadErrors end the run: with their one sentence, where Snakemake would wrap it in its own trace."""

    @wraps(function)
    def checked(*arguments):
        try:
            return function(*arguments)
        except BgadError as error:
            print(f"error: {shown(error)}", file=sys.stderr)
            raise SystemExit(1) from None

    return checked


# A job of a cluster runs its group of steps in a Snakemake of its own, to which --keep-going is not handed on: without it, a
# failed cell would keep those of its group from starting.
if workflow.remote_exec:
    from snakemake.scheduling.job_scheduler import JobScheduler

    JobScheduler.keepgoing = property(lambda _: True, lambda _, given: None)

CONFIG = at_the_door(settings.validated)(settings.Config, config, "config")
RECIPES = sorted(path.stem for path in Path("config/recipes").glob("*.yaml"))
DATASETS_JSON = json.dumps({name: d.model_dump(mode="json") for name, d in CONFIG.datasets.items()})
# What each step that computes asks for, a number of GPUs, for clusters.
GPUS = int(has_gpu() if CONFIG.device == "auto" else CONFIG.device != "cpu")
# Of one GPU's memory, of which the default profile gives out 100 percent.
GPU_PERCENT = percent_of_gpu(CONFIG.gpu_mb) if GPUS else 0

# The suites whose tables this run asked for, with the file of each table, and those whose pages it asked for.
REQUESTED = {}
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
    return layouts.catalogue(dataset, CONFIG.datasets[dataset])


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
    return [str(path) for part in parts for path in layouts.image_files(folder, part)]


@at_the_door
def inputs_of(wildcards):
    """What a cell is trained from, by name: its split, the features that its recipe needs, and the pools that it draws from.

    One function for all, since Snakemake's time for each one is a good part of the planning of thousands of cells. A cache is
    named by its record, which is written last.
    """
    names = dict(wildcards.items())
    cells.check(cells.Cell(**names | {"k": int(wildcards.k), "seed": int(wildcards.seed)}), catalogue_of)
    recipe = recipe_of(wildcards.recipe)
    features = paths.FEATURES.format(**names, backbone=recipe.backbone, image_size=recipe.image_size)
    return {"split": splits.file_of(recipe, names), "features": f"{features}/features.json", **pools_of(names, recipe)}


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


def pools_of(names, recipe):
    """The pool of each kind of synthetic images that a cell of these names draws from; none where it knows no anomalies, and
    none for a detector, which makes nothing of a recipe's."""
    k = int(names["k"])
    if k == 0 or names["method"] not in methods.PAPER_METHODS or recipe.anomalies.synthetic != "pool":
        return {}
    known = max(k, CONFIG.datasets[names["dataset"]].pool)
    where = {"backbone": recipe.backbone, "image_size": recipe.image_size, "known": known, "each": recipe.anomalies.pool}
    where["draws"] = splits.draws(recipe, names["split"])
    return {kind: f"{paths.SYNTHETIC.format(**names, **where, kind=kind)}/features.json" for kind in recipe.anomalies.kinds}


def caches_option(wildcards, input):
    """`--features FOLDER`, and `--cutpaste FOLDER` or `--pseudo FOLDER` where a cell has such a pool."""
    records = {name: input[name] for name in ("features", "cutpaste", "pseudo") if name in input.keys()}
    return " ".join(f"--{name} {shlex.quote(str(Path(record).parent))}" for name, record in records.items())


def cores_of(wildcards):
    """A cell's threads; on a GPU also the processes that make its synthetic images, where each pass has new ones."""
    anew = int(wildcards.k) > 0 and recipe_of(wildcards.recipe).anomalies.synthetic == "every_pass"
    return CONFIG.threads + (CONFIG.workers if GPUS and anew else 0)


method_sha256_of = cache(at_the_door(method_sha256))


@cache
def recipe_sha256_of(recipe):
    return recipe_of(recipe).sha256


def weights_option(backbone):
    """`--weights FILE` where the configuration names a local file for that backbone."""
    given = CONFIG.weights.get(backbone)
    return f"--weights {shlex.quote(str(given))}" if given else ""


def metrics_of(wildcards):
    """The metrics of every cell of a suite; a paper table is asked for without a wildcard."""
    return metrics_files(getattr(wildcards, "suite", "paper"))


@cache
def metrics_files(suite):
    return [(cell.folder / "metrics.json").as_posix() for cell in cells_of(suite)]


def metrics_for_table(wildcards, output):
    REQUESTED[getattr(wildcards, "suite", "paper")] = output
    return metrics_of(wildcards)


def metrics_for_page(wildcards):
    PAGES.add(wildcards.suite)
    return metrics_of(wildcards)


def splits_with_examples(wildcards):
    """Index and split of each category that knows anomalies."""
    shown = [asdict(cell) for cell in cells.with_examples(cells_of(wildcards.suite))]
    return [paths.INDEX.format(**of) for of in shown] + [splits.file_of(recipe_of(of["recipe"]), of) for of in shown]


# What a finished cell keeps for a run that is killed (bgad/finished.py) goes once Snakemake has recorded the cell: where all of
# its files are there and none is marked incomplete. (Where some are missing, a killed run may have taken them away.) A
# cluster's job has a Snakemake of its own, which records nothing.
def forget_recorded():
    for job in workflow.dag.jobs if workflow.is_main_process else ():
        if job.rule.name == "train" and all(Path(path).exists() for path in job.output):
            if not workflow.async_run(workflow.persistence.incomplete(job)):
                finished.forget(Path(job.params.cell))


# Snakemake's limit of 100 new steps a second has its scheduler look again a second after each look, and each step that ends
# begins one more such chain: after some hundred steps it looks all the time, with a core of its own. A step here takes
# seconds, and cores limit how many there are. A limit that is asked for stays.
def look_only_when_something_ends():
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


# What an earlier run's cell failed with (bgad/attempts.py) says nothing of this run's. On a cluster the first attempt of a cell
# here can be the second of its group.
def forget_failures():
    for cell in unfinished():
        attempts.forget(Path(cell))


def unfinished():
    return [job.params.cell for job in workflow.dag.needrun_jobs() if job.rule.name == "train"]
