"""The steps up to a trained cell: each is called by one rule, and can be called on its own."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from bgad.cli.app import app
from bgad.cli.options import (
    BackboneName,
    CacheFolder,
    Category,
    DataName,
    Datasets,
    Device,
    ImageSize,
    IndexFile,
    Output,
    Root,
    SplitFile,
    Threads,
    Weights,
    data_set,
)


@app.command()
def download(
    name: Annotated[str, Argument(help="mvtec or btad.")],
    root: Root,
    archives: Annotated[Path, Option(help="Folder that keeps the archives.")],
) -> None:
    """Downloads a data set, checks its hash and counts, and unpacks it.

    Example: bgad download mvtec --root resources/datasets/mvtec --archives resources/archives/mvtec
    """
    from bgad.data.download.dataset import download_dataset

    download_dataset(name, root, archives)


@app.command()
def mini(category: Annotated[str, Argument(help="brick, grass, gravel or coins.")], root: Root) -> None:
    """Makes a category of the embedded data set from photographs that scikit-image ships.

    Example: bgad mini brick --root resources/datasets/mini
    """
    from bgad.data.mini import generate

    generate(root, category)


@app.command()
def index(
    dataset: DataName,
    category: Category,
    root: Root,
    output: Output,
    datasets: Datasets = None,
    threads: Threads = None,
) -> None:
    """Checks every image and mask of a category and writes what it holds.

    Example: bgad index --dataset mvtec --category bottle --root /data/mvtec --output resources/index/mvtec/bottle.json
    """
    from dataclasses import replace

    from bgad.data import checks
    from bgad.data.download.dataset import check_copy
    from bgad.data.layouts import build_index

    settings, notes = check_copy(dataset, category, root, data_set(datasets, dataset))
    found = build_index(dataset, category, root, settings, threads or -1)
    found = replace(found, notes=(*notes, *found.notes))
    _print_notes(checks.of_index(found))
    found.save(output)


@app.command()
def split(
    index: IndexFile,
    name: Annotated[str, Option("--split", help="seen, or hard-<type>.")],
    seed: Annotated[int, Option(min=0)],
    output: Output,
    pool: Annotated[int, Option(min=0, help="Known anomalies that leave the test set.")] = 10,
    in_a_row: Annotated[bool, Option("--in-a-row", help="Draw as the released code, after the categories before it.")] = False,
    before: Annotated[
        list[Path] | None, Option(help="With --in-a-row: the index of each category before it, in order.")
    ] = None,
) -> None:
    """Draws a split: which anomalies can be known, and the test set.

    Example: bgad split --index resources/index/mvtec/bottle.json --split seen --seed 0 --output split.json
    """
    from bgad.data import checks
    from bgad.data.layouts import Index
    from bgad.data.splits import draw

    drawn = draw(Index.load(index), name, seed, pool, [Index.load(path) for path in before or []] if in_a_row else None)
    for path, reason in drawn.excluded:
        print(f"left out: {path} ({reason})")
    _print_notes(checks.of_split(drawn))
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
    --backbone tf_efficientnet_lite0 --image-size 256 --output resources/features/tf_efficientnet_lite0/256/mini/brick
    """
    from bgad import devices
    from bgad.data.layouts import Index
    from bgad.features.backbone import load_backbone
    from bgad.features.cache import compute
    from bgad.locks import alone
    from bgad.progress import progress

    network, category = load_backbone(backbone, devices.choose(device, threads), weights), Index.load(index)
    with alone(output), progress("images", len(category.images)) as advance:
        network.network.register_forward_hook(lambda _, __, levels: advance(len(levels[0])))
        compute(category, root, network, image_size, output)


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

    Example: bgad synthetic cutpaste --index resources/index/mini/brick.json --root resources/datasets/mini
    --split resources/splits/own/mini/brick/seen/seed0.json --backbone tf_efficientnet_lite0 --image-size 128
    --known 10 --each 4
    --output resources/cutpaste/own/tf_efficientnet_lite0/256/mini/brick/seen/seed0/10x4
    """
    from bgad import devices
    from bgad.anomalies.synthetic import compute_synthetic
    from bgad.data.layouts import Index
    from bgad.data.splits import Split
    from bgad.features.backbone import load_backbone
    from bgad.locks import alone
    from bgad.progress import progress

    network, drawn = load_backbone(backbone, devices.choose(device, threads), weights), Split.load(split)
    count = len((drawn.pool + drawn.further)[:known]) * each
    with alone(output), progress(f"{kind} images", count) as advance:
        network.network.register_forward_hook(lambda _, __, levels: advance(len(levels[0])))
        workers = threads if threads and threads > 1 else 0
        compute_synthetic(kind, Index.load(index), drawn, root, network, image_size, known, each, output, workers)


@app.command()
def cell(
    folder: Annotated[Path, Argument(help="Folder of the cell, results/<recipe>/.../seed<seed>.")],
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
    checkpoint_every: Annotated[float, Option(min=0, help="Seconds of training between checkpoints.")] = 60,
    trained: Annotated[
        Path | None,
        Option(help="With k 0 on hard-<type>: folder of the same cell on seen, to evaluate its model instead of training."),
    ] = None,
) -> None:
    """Trains and evaluates one cell and writes metrics.json, history.csv, scores.csv, model.pt and more into its folder.

    Example: bgad cell results/demo/mini/brick/seen/k10/bgad/seed0 --recipe config/recipes/demo.yaml
    --index resources/index/mini/brick.json --split resources/splits/own/mini/brick/seen/seed0.json
    --features resources/features/tf_efficientnet_lite0/256/mini/brick --root resources/datasets/mini
    --cutpaste resources/cutpaste/own/tf_efficientnet_lite0/256/mini/brick/seen/seed0/10x4
    """
    from bgad import devices
    from bgad.config.cells import Cell
    from bgad.config.settings import load_recipe
    from bgad.data.layouts import Index
    from bgad.data.splits import Split
    from bgad.features.cache import load
    from bgad.locks import alone
    from bgad.methods.runner import run_cell
    from bgad.progress import progress
    from bgad.training.checkpoint import Checkpoint, key_of

    with alone(folder):
        chosen, of_folder, settings = devices.choose(device, threads), Cell.of_folder(folder), load_recipe(recipe)
        inputs = (of_folder, settings, Index.load(index), Split.load(split), load(features))
        pools = {kind: load(pool) for kind, pool in {"cutpaste": cutpaste, "pseudo": pseudo}.items() if pool}
        checkpoint = Checkpoint(folder, key_of(*inputs, pools, chosen), checkpoint_every)
        # A training on a GPU keeps one core busy; the others make the next pass's images.
        workers = (threads or 1) - 1 if chosen.type == "cuda" else 0
        with progress("epochs", settings.schedule.meta_epochs) as advance:

            def log(line: str) -> None:
                print(line)
                advance(1)

            metrics = run_cell(*inputs, pools, root, chosen, folder, weights, log, workers, checkpoint, trained)
        _print_notes(metrics["notes"])


def _print_notes(notes: list[str]) -> None:
    for note in notes:
        print(f"note: {note}")
