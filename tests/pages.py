"""Cells with all that a page draws from: metrics, history, types, likelihoods and a gallery, written as a training would."""

import csv
from dataclasses import astuple

import numpy as np
from synthetic import METRICS, cell, metrics, type_metrics, write_cell

from bgad.evaluation.gallery import write_gallery
from bgad.io import write_json

TILE = 8
THRESHOLD = 2.0
# Path, type, score: at the threshold of 2 one anomaly is missed and one normal image is a false alarm.
IMAGES = [
    ("test/good/000.png", "good", 1.0),
    ("test/good/001.png", "good", 2.5),
    ("test/cut/000.png", "cut", 3.0),
    ("test/cut/001.png", "cut", 1.5),
    ("test/hole/000.png", "hole", 2.0),
]


def write_whole(root, of, value=90.0, images=IMAGES, masks=True, threshold=THRESHOLD):
    """A finished cell whose image AUROC is ``value`` and ``value`` + 1 (last and best), its pixel AUROC half a point more.

    By type: cut has ``value``, hole two points less (of pixel AUROC one); training knew cut in seed 0, hole in seed 1."""
    pixel = (value + 0.5, value + 1.5) if masks else None
    history = [{"epoch": epoch, **dict.fromkeys(METRICS, value + 1 - abs(epoch - 1))} for epoch in range(3)]
    kinds = sorted({kind for _, kind, _ in images} - {"good"})
    known = {kinds[of.seed % 2]} if of.k and len(kinds) > 1 else set()  # another type in every second seed
    types = {kind: type_metrics(value - 2 * place, value - place, 2, kind in known) for place, kind in enumerate(kinds)}
    values = metrics((value, value + 1), pixel, pixel, pixel)
    write_cell(root, of, values, by_type=types, history=history)
    write_images(root / of.folder, images, masks, threshold)
    write_json(root / of.folder / "likelihoods.json", {"bins": 3, "beta": 0.05, "tau": 0.1, "levels": [level(), level()]})


def write_images(folder, images=IMAGES, masks=True, threshold=THRESHOLD):
    """scores.csv, and a gallery in which an image's map is its score in its lower right quarter, where its defect is."""
    count = len(images)
    thumbnails = np.random.default_rng(count).integers(60, 200, (count, TILE, TILE, 3), dtype=np.uint8)
    maps, defects = np.zeros((count, TILE, TILE)), np.zeros((count, TILE, TILE), bool)
    for place, (_, kind, score) in enumerate(images):
        maps[place, TILE // 2 :, TILE // 2 :] = score
        defects[place, TILE // 2 :, TILE // 2 :] = kind != "good"
    write_gallery(folder / "gallery", thumbnails, defects if masks else None, maps, threshold)
    with (folder / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "type", "anomalous", "score"])
        writer.writerows([path, kind, int(kind != "good"), score] for path, kind, score in images)


def level():
    shares = {"normal": [0.0, 0.4, 0.6], "known anomalies": [0.9, 0.1, 0.0], "unseen types": [0.5, 0.5, 0.0]}
    groups = {name: {"count": 10, "share": share} for name, share in shares.items()}
    return {"low": -3.0, "high": 0.0, "b_n": -1.5, "b_a": -2.5, "groups": groups}


def several(root):
    """24 cells over two categories, splits, counts, three methods and two seeds, each with its own metric; one of them
    failed and one did not run. Returns the cells and their image AUROC, last, by cell."""
    cells = [
        cell(category, split, k, method, seed)
        for category in ("carpet", "grid")
        for split in ("seen", "hard-cut")
        for k, method in ((0, "bgad-wo"), (0, "nf"), (10, "bgad"))
        for seed in (0, 1)
    ]
    failed, not_run = cell("grid", "hard-cut", 10, "bgad", 1), cell("grid", "seen", 0, "nf", 1)
    values = {}
    for place, of in enumerate(cells):
        if of == failed:
            (root / of.folder).mkdir(parents=True)
            (root / of.folder / "train.log").write_text("error: the features are not finite.\n")
        elif of != not_run:
            values[of] = 60.0 + place * 1.25
            write_whole(root, of, values[of])
    assert len(set(map(astuple, cells))) == 24
    return cells, values
