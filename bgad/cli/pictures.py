"""Commands for one's own pictures."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bgad.cli.app import app
from bgad.cli.options import AsJson, Device, FinishedCell, Threads, Weights


@app.command()
def predict(
    images: Annotated[list[Path], Argument(help="Pictures to score; a folder stands for those right in it.")],
    cell: FinishedCell,
    out: Annotated[Path | None, Option(help="Folder for scores.csv and an overlay of each picture.")] = None,
    as_json: AsJson = False,
    weights: Weights = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Scores pictures with a finished cell: path, score, and verdict at the threshold of best F1 on the cell's test set.

    Example: bgad predict part.png --cell results/demo/mini/brick/seen/k10/bgad/seed0 --out overlays
    """
    from bgad import devices
    from bgad.files import several, write_csv
    from bgad.overlay import write_overlay
    from bgad.predict import pictures_in, predictions
    from bgad.progress import track

    pictures, rows = pictures_in(images), []
    scored = predictions(pictures, cell, devices.choose(device, threads), weights)
    with several(out) if out else nullcontext() as folder:
        for found in track(scored, "pictures", len(pictures), quiet=as_json):
            row = {"path": str(found.path), **found.figures}
            if folder:
                # Numbered, since pictures in different folders may have the same name; a name may not be too long.
                row["overlay"] = f"{len(rows) + 1:04}-{found.path.stem[:40]}.png"
                write_overlay(found, folder / row["overlay"])
            rows.append(row)
            if not as_json:
                verdict = f"{found.verdict} (threshold {found.threshold:.4f})" if found.verdict else "no verdict"
                print(f"{found.path}\t{found.score:.4f}\t{verdict}")
        if folder:
            write_csv(folder / "scores.csv", rows)
    if as_json:
        print(json.dumps(rows, indent=1))
