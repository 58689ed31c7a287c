"""Cells with chosen metrics, written as a training would leave them."""

import csv
import json
import re
import zlib
from dataclasses import asdict

import numpy as np
import pytest

from bgad.config.cells import Cell
from bgad.config.settings import Block, Suite
from bgad.evaluation.curves import Curves
from bgad.report import bootstrap
from bgad.report.stale import Today
from bgad.report.tables.suite import write_table

METRICS = ("image_auroc", "pixel_auroc", "aupro", "released_pro")
MVTEC = ["bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile"]
MVTEC += ["toothbrush", "transistor", "wood", "zipper"]


def cell(category="carpet", split="seen", k=10, method=None, seed=0, recipe="cpu", dataset="mvtec"):
    return Cell(recipe, dataset, category, split, k, method or ("bgad" if k else "bgad-wo"), seed)


def suite(title="A suite", question="Does it hold?"):
    block = Block(recipe="cpu", dataset="mvtec", splits=["seen"], k=[10], methods=["bgad"], seeds=[0])
    return Suite(title=title, question=question, grid=[block])


def one_metric(last, best=None, epoch=3):
    """None for an undefined metric; best is last unless given."""
    return {"last": last, "best": last if best is None else best, "best_epoch": None if last is None else epoch}


def metrics(image, pixel=(98.0, 98.0), aupro=(94.0, 94.0), released_pro=(93.0, 93.0)):
    """Each a pair (last, best), or None where undefined."""
    return {m: one_metric(*(of or (None,))) for m, of in zip(METRICS, (image, pixel, aupro, released_pro), strict=True)}


def write_cell(root, of, values, full_test=None, by_type=None, history=None, **changed):
    """metrics.json of ``of`` with ``values`` (see metrics), and history.csv where rows are given.

    The cell is not stale: its hashes are those of ``root`` and of the code; of a recipe or split that is not there, made up.
    """
    metrics = {
        "cell": asdict(of),
        **values,
        **({"full_test": full_test or values} if of.k == 0 else {}),
        "by_type": by_type or {},
        "counts": {"train_normal": 200, "train_anomalous": of.k, "test_normal": 20, "test_anomalous": 50},
        **{key: now or letter * 64 for letter, (key, now) in zip("cadeb", Today(root).sha256(of).items(), strict=True)},
        "timing": {"train_s": 1.5},
        "environment": {"torch": "2.14.0", "device": "cpu", "cpu": "a processor", "git_commit": "abc1234"},
    }
    write(root, of, "metrics.json", json.dumps(metrics | changed))
    if history:
        path = root / of.folder / "history.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(history[0]))
            writer.writeheader()
            writer.writerows(history)


def write(root, of, name, text):
    path = root / of.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(autouse=True, scope="module")
def few_replicates():
    """For the tests that import it: they check what becomes of the intervals, not their width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "REPLICATES", 50)
        bootstrap.draws.cache_clear()
        yield
    bootstrap.draws.cache_clear()


def write_images(root, of, easy=None, normal=20, types=("cut",)):
    """scores.csv and curves.npz of ``of``: ``easy``, normal images first, plus 2 if anomalous, as scores and pixels.

    Without ``easy``, a normal image ties with one of each type's 400, another in each cell, so that the images leave next to
    no chance.
    """
    if easy is None:
        normal, place = 400, zlib.crc32(repr(of).encode()) % 400
        easy = np.zeros((1 + len(types), 400))
        easy[:, place] = [1, *[-1] * len(types)]
        easy = easy.ravel()
    types = ["good"] * normal + [types[i % len(types)] for i in range(len(easy) - normal)]
    if normal == 400:
        types = ["good"] * 400 + sorted(types[400:], key=types[400:].index)
    scores = easy + 2.0 * (np.arange(len(easy)) >= normal)
    rows = [
        f"test/{kind}/{i:03}.png,{kind},{int(kind != 'good')},{score}"
        for i, (kind, score) in enumerate(zip(types, scores, strict=True))
    ]
    write(root, of, "scores.csv", "\n".join(["path,type,anomalous,score", *rows]))
    masks = np.zeros((len(scores), 2, 2), dtype=bool)
    masks[normal:, 0, 0] = True
    maps = scores[:, None, None] * (masks | ~masks.any(axis=(1, 2), keepdims=True))
    Curves.of(masks, maps.astype(np.float32)).save(root / of.folder / "curves.npz")


def type_metrics(image, pixel=98.0, n=10, known=True):
    return {"image_auroc": image, "pixel_auroc": pixel, "n": n, "known": known}


def table(root, cells):
    """The Markdown as lines, and the CSV as dictionaries."""
    folder = root / "reports" / "a"
    write_table("a", suite(), cells, folder / "table.md", folder / "table.csv", folder, root)
    with (folder / "table.csv").open(newline="") as file:
        return (folder / "table.md").read_text().splitlines(), list(csv.DictReader(file))


def under(lines, heading):
    """The cells of the table rows under a heading, by their first cell; with the rest of the lines under ""."""
    start = next(i for i, line in enumerate(lines) if line.startswith("#") and heading in line)
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("#")), len(lines))
    rows = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines[start:end] if line.startswith("|")]
    return {row[0].strip(): [c.strip() for c in row[1:]] for row in rows} | {"": "\n".join(lines[start:end])}


def result_rows(lines, head):
    """The cells of the table of results whose first column has this head, by category; with the heads."""
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {head} "))
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    rows = [[c.strip() for c in line[1:-1].split("|")] for line in lines[start:end]]
    return {row[0]: row[1:] for row in rows if not row[0].startswith(":-")}


def differences(records, section="claim"):
    """(difference, split, k, over) -> seeds and the three metrics, of a section of the CSV, as a table would show them."""
    shown = {}
    for r in (r for r in records if r["section"] == section):
        over, types = re.fullmatch("(.*?)(, known types|, unseen types)?", r["row"]).groups("")
        what = f"{r['recipe' if section == 'recipes' else 'method']} - {r['against']}"
        row = shown.setdefault((what, r["kind"] + types, r["k"], over), ["", "—", "—", "—"])
        row[0] = max(row[0], r["n"] if r["n"] == r["asked"] else f"{r['n']} of {r['asked']}")
        if r["metric"] in METRICS[:3]:
            text = r["difference"] + (f" [{r['difference_low']}, {r['difference_high']}]" if r["difference_low"] else "")
            row[1 + METRICS.index(r["metric"])] = f"{text} {r['verdict_difference']}".strip() or "—"
    return shown


def values(records, row, metric="image_auroc", section="setting", **of):
    """n, last, last_sd, best and best_sd of the one record with these fields."""
    of = {"section": section, "row": row, "metric": metric, **of}
    (record,) = (r for r in records if all(r[name] == str(value) for name, value in of.items()))
    return [record[column] for column in ("n", "last", "last_sd", "best", "best_sd")]


def rows_under(lines, heading):
    """All table rows under a heading, heads included, as lists of cells."""
    text = under(lines, heading)[""].splitlines()
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in text if line.startswith("| ")]


def three_seeds(root, category="carpet", **of):
    """image AUROC: last 90, 92, 97, so 93 with sd sqrt(13) = 3.61; best 94, 95, 99, so 96 with sd sqrt(7) = 2.65."""
    cells = [cell(category, seed=seed, **of) for seed in range(3)]
    for one, image in zip(cells, [(90.0, 94.0), (92.0, 95.0), (97.0, 99.0)], strict=True):
        write_cell(root, one, metrics(image))
    return cells


def headline(root, categories=MVTEC):
    """15 categories, 2 seeds of paper: image last 98, 99 (98.5), best 99, 99.4 (99.2); pixel last 97, 98 (97.5), best 99.5."""
    cells = [cell(category, seed=seed, recipe="paper") for category in categories for seed in (0, 1)]
    for one in cells:
        image, pixel = [((98.0, 99.0), (97.0, 99.5)), ((99.0, 99.4), (98.0, 99.5))][one.seed]
        write_cell(root, one, metrics(image, pixel))
    return cells
