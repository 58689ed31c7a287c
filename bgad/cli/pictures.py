"""Commands for one's own pictures."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bgad.cli.app import app
from bgad.cli.options import Device, Threads, Weights


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
