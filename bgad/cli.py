"""The command ``bgad``: one subcommand a step of the workflow, each called by one rule.

Imports of the heavy modules wait until a command needs them, so that ``bgad --help`` answers at once.
"""

import json
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from bgad import __version__
from bgad.errors import BgadError

app = typer.Typer(
    help="BGAD (CVPR 2023) as a reproducible benchmark. `snakemake --cores all reports/demo/table.md` calls these steps "
    "in their order; each can also be called on its own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DataName = Annotated[str, Option("--dataset", help="Name of the data set, as in config/config.yaml.")]
Category = Annotated[str, Option(help="Category: a folder of the data set.")]
Root = Annotated[Path, Option(help="Folder of the data set, above its categories.")]
Output = Annotated[Path, Option(help="File to write.")]
IndexFile = Annotated[Path, Option("--index", help="Index of the category, from `bgad index`.")]
SplitFile = Annotated[Path, Option("--split", help="Split, from `bgad split`.")]
BackboneName = Annotated[str, Option("--backbone", help="timm name, with the tag of its weights.")]
ImageSize = Annotated[int, Option(min=32, help="Side of the square that images are resized to, in pixels.")]
CacheFolder = Annotated[Path, Option("--output", help="Folder of the cache.")]
Device = Annotated[str, Option(help="auto, cpu, cuda or cuda:<n>.")]
Threads = Annotated[int | None, Option(min=1, help="CPU threads; by default torch's choice.")]
Weights = Annotated[Path | None, Option(help="Local weight file of the backbone, instead of a cache or a download.")]
SuiteName = Annotated[str, Argument(help="Name of a suite, as in config/suites.")]
Datasets = Annotated[str | None, Option(help="Data sets as JSON; by default those of config/config.yaml.")]


def main() -> None:
    """Runs the command line; a mistake of the user's ends in one sentence and exit status 1."""
    sys.stdout.reconfigure(line_buffering=True)  # so that a log can be followed
    try:
        app()
    except BgadError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def download(
    name: Annotated[str, Argument(help="mvtec or btad.")],
    root: Root,
    archives: Annotated[Path, Option(help="Folder that keeps the archives.")],
) -> None:
    """Downloads a data set, checks its hash and counts, and unpacks it.

    Example: bgad download mvtec --root resources/datasets/mvtec --archives resources/archives/mvtec
    """
    from bgad.download import download_dataset

    download_dataset(name, root, archives)


@app.command()
def mini(category: Annotated[str, Argument(help="brick, grass, gravel or coins.")], root: Root) -> None:
    """Makes a category of the embedded data set from photographs that scikit-image ships.

    Example: bgad mini brick --root resources/datasets/mini
    """
    from bgad.mini import generate

    generate(root, category)


@app.command()
def index(dataset: DataName, category: Category, root: Root, output: Output, datasets: Datasets = None) -> None:
    """Checks every image and mask of a category and writes what it holds.

    Example: bgad index --dataset mvtec --category bottle --root /data/mvtec --output resources/index/mvtec/bottle.json
    """
    from bgad.datasets import build_index
    from bgad.download import check_copy

    check_copy(dataset, category, root)
    build_index(dataset, category, root, _datasets(datasets, dataset)).save(output)


@app.command()
def split(
    index: IndexFile,
    name: Annotated[str, Option("--split", help="seen, or hard-<type>.")],
    seed: Annotated[int, Option(min=0)],
    output: Output,
    pool: Annotated[int, Option(min=1, help="Known anomalies that leave the test set.")] = 10,
    in_a_row: Annotated[bool, Option("--in-a-row", help="Draw as the released code, after the categories before it.")] = False,
    before: Annotated[
        list[Path] | None, Option(help="With --in-a-row: the index of each category before it, in order.")
    ] = None,
) -> None:
    """Draws a split: which anomalies can be known, and the test set.

    Example: bgad split --index resources/index/mvtec/bottle.json --split seen --seed 0 --output split.json
    """
    from bgad.datasets import Index
    from bgad.splits import draw

    drawn = draw(Index.load(index), name, seed, pool, [Index.load(path) for path in before or []] if in_a_row else None)
    for path, reason in drawn.excluded:
        print(f"left out: {path} ({reason})")
    drawn.save(output)


@app.command()
def features(
    index: IndexFile,
    root: Root,
    backbone: BackboneName,
    image_size: ImageSize,
    output: CacheFolder,
    weights: Weights = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Takes a category's images through the frozen backbone, once for all its cells.

    Example: bgad features --index resources/index/mini/brick.json --root resources/datasets/mini
    --backbone tf_efficientnet_lite0 --image-size 128 --output resources/features/tf_efficientnet_lite0/128/mini/brick
    """
    from bgad import devices
    from bgad.backbones import load_backbone
    from bgad.datasets import Index
    from bgad.features import compute

    network = load_backbone(backbone, devices.choose(device, threads), weights)
    compute(Index.load(index), root, network, image_size, output)


@app.command()
def synthetic(
    kind: Annotated[Literal["cutpaste", "pseudo"], Argument(help="Of the known anomalies, or of normal images alone.")],
    index: IndexFile,
    split: SplitFile,
    root: Root,
    backbone: BackboneName,
    image_size: ImageSize,
    known: Annotated[int, Option(min=1, help="Of how many known anomalies, the split's first.")],
    each: Annotated[int, Option(min=1, help="Images for each.")],
    output: CacheFolder,
    weights: Weights = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Makes a split's pool of synthetic anomalies and takes them through the backbone, once for all cells of the split.

    Example: snakemake --cores 1 -p results/demo/mini/brick/seen/k10/bgad/seed0/metrics.json prints the whole command.
    """
    from bgad import devices
    from bgad.backbones import load_backbone
    from bgad.datasets import Index
    from bgad.features import compute_synthetic
    from bgad.splits import Split

    network = load_backbone(backbone, devices.choose(device, threads), weights)
    compute_synthetic(kind, Index.load(index), Split.load(split), root, network, image_size, known, each, output)


@app.command()
def train(
    cell: Annotated[Path, Argument(help="Folder of the cell, results/<recipe>/.../seed<seed>.")],
    recipe: Annotated[Path, Option(help="Recipe file.")],
    index: IndexFile,
    split: SplitFile,
    features: Annotated[Path, Option(help="Folder of the feature cache.")],
    root: Root,
    cutpaste: Annotated[Path | None, Option(help="Folder of the pool of CutPaste images, if the recipe has one.")] = None,
    pseudo: Annotated[Path | None, Option(help="Folder of the pool of pseudo anomalies, if the recipe has one.")] = None,
    weights: Weights = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Trains and evaluates one cell and writes metrics.json, history.csv, scores.csv and model.pt into its folder.

    Example: snakemake --cores 1 -p results/demo/mini/brick/seen/k10/bgad/seed0/metrics.json prints the whole command.
    """
    from bgad import devices
    from bgad.cells import Cell
    from bgad.datasets import Index
    from bgad.features import load
    from bgad.results import run_cell
    from bgad.settings import load_recipe
    from bgad.splits import Split

    chosen = devices.choose(device, threads)
    run_cell(
        Cell.of_folder(cell),
        load_recipe(recipe),
        Index.load(index),
        Split.load(split),
        load(features),
        {kind: load(folder) for kind, folder in {"cutpaste": cutpaste, "pseudo": pseudo}.items() if folder},
        root,
        chosen,
        cell,
        weights,
        # A training on a GPU keeps one core busy; the others make the next pass's images.
        workers=(threads or 1) - 1 if chosen.type == "cuda" else 0,
    )


@app.command()
def predict(
    images: Annotated[list[Path], Argument(help="Pictures to score.")],
    cell: Annotated[Path, Option(help="Folder of a finished cell.")],
    weights: Weights = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Scores pictures with a finished cell: path, score, and verdict at the threshold of best F1 on the cell's test set.

    Example: bgad predict part.png --cell results/demo/mini/coins/seen/k10/bgad/seed0
    """
    from bgad import devices
    from bgad.predict import predict as predict_images

    for found in predict_images(images, cell, devices.choose(device, threads), weights):
        verdict = "anomalous" if found.anomalous else "normal"
        print(f"{found.path}\t{found.score:.4f}\t{verdict} (threshold {found.threshold:.4f})")


@app.command()
def cells(
    suite: SuiteName,
    datasets: Datasets = None,
) -> None:
    """Lists the cells of a suite by their paths.

    Example: bgad cells demo
    """
    for cell in _suite_cells(suite, datasets)[1]:
        print(cell.folder.as_posix())


@app.command()
def table(
    suite: SuiteName,
    output: Annotated[Path, Option(help="Markdown file; the CSV of the same content goes beside it.")],
    plots: Annotated[Path, Option(help="Folder of the plots that the table links to.")],
    datasets: Datasets = None,
) -> None:
    """Writes a suite's table from the cells that are there, naming those that are not.

    Example: bgad table demo --output reports/demo/table.md --plots reports/demo
    """
    from bgad.report.table import write_table

    definition, wanted, left_out = _suite_cells(suite, datasets)
    write_table(suite, definition, wanted, output, output.with_suffix(".csv"), plots, Path(), left_out)


@app.command()
def report(
    suite: SuiteName,
    output: Annotated[Path, Option(help="HTML file to write.")],
    datasets: Datasets = None,
) -> None:
    """Writes a suite's report as one page that opens from a file, from the cells that are there.

    Example: bgad report demo --output reports/demo/report.html
    """
    from bgad.report.page import write_page

    definition, wanted, left_out = _suite_cells(suite, datasets)
    write_page(suite, definition, wanted, output, Path(), left_out)


@app.command()
def plots(
    suite: SuiteName,
    output: Annotated[Path, Option(help="Folder to write to.")],
    datasets: Datasets = None,
) -> None:
    """Draws a suite's plots, as SVG and PNG.

    Example: bgad plots demo --output reports/demo
    """
    from bgad.report.plots import write_plots

    definition, wanted, _ = _suite_cells(suite, datasets)
    write_plots(definition, wanted, output, Path())


@app.command()
def examples(
    suite: SuiteName,
    output: Annotated[Path, Option(help="PNG file to write.")],
    datasets: Datasets = None,
) -> None:
    """Draws a page of what CutPaste makes of each category's known anomalies.

    Example: bgad examples demo --output reports/demo/cutpaste.png
    """
    from bgad import paths
    from bgad.cells import with_examples
    from bgad.datasets import Index
    from bgad.examples import write_examples
    from bgad.settings import load_recipe
    from bgad.splits import Split, file_of

    definition, wanted, _ = _suite_cells(suite, datasets)
    categories = []
    for cell in with_examples(wanted):
        names = asdict(cell)
        split = file_of(load_recipe(paths.recipe_file(cell.recipe)), names)
        root = _datasets(datasets, cell.dataset).path or Path(paths.DATASET.format(**names))
        index = Index.load(Path(paths.INDEX.format(**names)))
        categories.append((index, Split.load(Path(split)), root / cell.category))
    write_examples(definition.title, categories, output)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, Option("--version", help="Print the version and end.")] = False) -> None:
    if show:
        print(__version__)
        raise typer.Exit


def _suite_cells(name: str, datasets: str | None):
    from bgad import paths
    from bgad.cells import expand, left_out
    from bgad.datasets import catalogue
    from bgad.settings import load_suite

    suite = load_suite(paths.suite_file(name))
    folders = cache(lambda dataset: catalogue(dataset, _datasets(datasets, dataset)))
    return suite, expand(suite, folders), left_out(suite, folders)


def _datasets(given: str | None, name: str):
    """The settings of data set ``name``: from JSON where the workflow passes it, else from config/config.yaml."""
    from bgad.settings import Config, read_yaml, validated

    if given is None:
        known = validated(Config, read_yaml(Path("config/config.yaml")), "config/config.yaml").datasets
    else:
        try:
            values = json.loads(given)
        except json.JSONDecodeError as error:
            raise BgadError(f"--datasets: not valid JSON ({error}); quote it for the shell.") from error
        known = validated(Config, {"datasets": values, "suites": []}, "--datasets").datasets
    if name not in known:
        raise BgadError(f"config: there is no data set {name}; add it to datasets, or use one of {', '.join(known)}.")
    return known[name]
