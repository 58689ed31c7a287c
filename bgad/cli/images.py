"""Commands for your own images: train a cell on a folder of them, and score them with a finished cell."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from bgad.cli.app import app
from bgad.cli.options import AsJson, Device, FinishedCell, RecipeName, Threads, Weights
from bgad.config.names import FORMULA, MOST_SEED, shown
from bgad.errors import ConfigError, DataError


@app.command()
def predict(
    images: Annotated[list[Path], Argument(help="Images to score; a folder stands for the images directly in it.")],
    cell: FinishedCell,
    out: Annotated[Path | None, Option(help="Folder for scores.csv and an overlay of each image.")] = None,
    as_json: AsJson = False,
    weights: Weights = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Scores images with a finished cell: path, score, and verdict at the threshold of best F1 on the cell's test set.

    Example: bgad predict part.png --cell results/demo/mini/brick/seen/k10/bgad/seed0 --out overlays
    """
    from bgad import devices
    from bgad.io import several, write_csv
    from bgad.methods.predict import images_in, overlays_in, predictions
    from bgad.progress import track
    from bgad.report.plots.overlay import write_overlay

    old = overlays_in(out) if out else set()
    if out and (out / "scores.csv").exists() and not old:
        raise ConfigError(f"--out {out}: has a scores.csv that is not from bgad predict; name another folder.")
    paths = images_in(images)
    rows: list[dict] = []
    unreadable: list[DataError] = []
    scored = predictions(paths, cell, devices.choose(device, threads), weights)
    with several(out) if out else nullcontext() as folder:
        for found in track(scored, "images", len(paths), quiet=as_json):
            if isinstance(found, DataError):
                unreadable.append(found)
                continue
            row = {"path": _safe_in_a_sheet(shown(found.path)), **found.row}
            if folder:
                # Numbered, because images in different folders may share a name; cut, because a name may be too long.
                overlay = f"{len(rows) + 1:04}-{shown(found.path.stem[:40])}.png"
                write_overlay(found, folder / overlay)
                row["overlay"] = overlay
            rows.append(row)
            if not as_json:
                verdict = f"{found.verdict} (threshold {found.threshold:.4f})" if found.verdict else "no verdict"
                print(f"{row['path']}\t{found.score:.4f}\t{verdict}")
        if not rows:
            raise unreadable[0]
        if folder:
            write_csv(folder / "scores.csv", rows)
    if out:
        for name in old - {row["overlay"] for row in rows}:
            (out / name).unlink(missing_ok=True)
    if as_json:
        print(json.dumps(rows, indent=1))
    for error in unreadable:
        print(f"error: {shown(error)}", file=sys.stderr)
    if unreadable:
        count = f"{len(unreadable)} of {len(paths)} images could not be read"
        print(f"error: {count}; the others are scored.", file=sys.stderr)
        raise Exit(1)


@app.command()
def train(
    folder: Annotated[Path, Argument(help="Folder of the images: train/good, test/good, test/<type>, ground_truth/<type>.")],
    recipe: RecipeName = "cpu",
    k: Annotated[int | None, Option(min=0, help="Known anomalies; by default 10, but at most half of them.")] = None,
    split: Annotated[str, Option(help="seen, or hard-<type>: know one type and test on the others.")] = "seen",
    seed: Annotated[int, Option(min=0, max=MOST_SEED, help="Seed of the known anomalies, the network and the training.")] = 0,
    name: Annotated[str | None, Option(help="Name of the data set; by default that of the folder above.")] = None,
    hold_out: Annotated[
        float, Option(min=0, max=0.9, metavar="SHARE", help="Share of train/good to test on instead, such as 0.2.")
    ] = 0,
    bit_depth: Annotated[int | None, Option(help="Bits of the values in 16-bit images: 10, 12, 14 or 16.")] = None,
    out: Annotated[Path | None, Option(help="New folder to copy the finished cell to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Trains a cell on one folder in MVTec AD's layout, without a configuration, and prints its metrics.

    Example: bgad train /data/mine/bolt
    """
    from bgad.cli.own_data import copy_of, images_found, origin, plan, summary
    from bgad.cli.run_snakemake import Stopped, make
    from bgad.config import paths

    if out and out.exists():
        raise ConfigError(f"--out {out}: already exists; name a new folder.")
    root = paths.project_root()
    cell, dataset = plan(folder, recipe, k, split, seed, name, root, hold_out, bit_depth)
    try:
        metrics = make(cell, dataset, root, quiet=as_json)
    except Stopped as stop:
        kept = "finished steps and the training's last checkpoint are kept"
        print(f"stopped: {kept}; the same command continues from there.", file=sys.stderr)
        raise Exit(128 + stop.number) from None
    finally:
        if (root / cell.folder).is_dir():  # finished or not: other commands say how to make it
            origin(cell, dataset, root).save(root / cell.folder)
    place = cell.folder if root == Path.cwd() else root / cell.folder
    if out:
        place = copy_of(root / cell.folder, out)
    if as_json:
        print(json.dumps({"folder": str(place), **metrics}, indent=1))
    else:
        print(summary(metrics, place, images_found(cell, root)))


def _safe_in_a_sheet(path: str) -> str:
    """A path that no spreadsheet takes for a formula."""
    return f"./{path}" if path[:1] in FORMULA else path
