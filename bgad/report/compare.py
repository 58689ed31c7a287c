"""Two cells, or two sets of cells, against each other: differences of their metrics, paired over seeds.

A recipe, split, k or method differs if A and B have no value of it in common; the two cells of a pair agree in all others, and
in data set, category and seed. Two single cells may also have different seeds.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tabulate import tabulate

from bgad.config.cells import Cell
from bgad.errors import BgadError, ConfigError
from bgad.evaluation.metrics import METRICS
from bgad.report.averages import SETTING, Row, Setting, category_rows, measured_means, paired, settings
from bgad.report.bootstrap import with_images
from bgad.report.collect import CELL, DONE, Collected, collect, scores_of
from bgad.report.statistics import number, signed
from bgad.report.tables.format import NAMES, NONE, SHOWN, title

MAY_DIFFER = ("recipe", "split", "k", "method")
HASHES = {"split_sha256": "Splits", "index_sha256": "Images of the category", "features_sha256": "Features"}
SAME, OTHER, UNKNOWN = "the same", "different", "not known"


class Side(NamedTuple):
    """One side of a comparison: its name as the user wrote it, its cells, and the project with their ``results``."""

    name: str
    cells: list[Cell]
    root: Path


class Pair(NamedTuple):
    """A cell of each side, and whether these are the same, different or not known: their splits (by split_sha256, which covers
    the known anomalies), the images of their category (index_sha256), their features (features_sha256), and their test images
    (by the paths in scores.csv; with other images in the category, the same path says nothing)."""

    a: Cell
    b: Cell
    split: str
    images: str
    features: str
    test_images: str


@dataclass(frozen=True)
class Difference:
    """The cells of a setting of A against those of one of B. The ``spread`` of a row has for each metric the columns a, b and
    last (a - b), in percent. ``means``: over categories; ``categories``: each one."""

    setting: Setting
    against: Setting
    pairs: int  # with metrics on both sides
    means: list[Row]
    categories: list[Row]


@dataclass(frozen=True)
class Comparison:
    """``differ``: the fields in which the cells of a pair differ. ``unpaired`` and ``unmeasured``: cells, each with the reason.

    Only for two single cells: ``by_type``, a row for each defect type that both tested.
    """

    differ: list[str]
    pairs: list[Pair]
    differences: list[Difference]
    unpaired: list[str]
    unmeasured: list[str]
    by_type: pd.DataFrame | None = None


def cells_below(folder: Path) -> Side:
    """The cells in ``folder``, finished or started; ConfigError if there is none."""
    found = sorted({path.parent for name in ("metrics.json", "train.log") for path in folder.rglob(name)})
    located = [Cell.located(path) for path in found]
    roots = sorted({root for _, root in located})
    if not roots:
        raise ConfigError(f"{folder}: contains no cell; name a cell's folder, a folder with several, or a suite.")
    if len(roots) > 1:
        raise ConfigError(f"{folder}: contains the results of several projects; name one of {', '.join(map(str, roots))}.")
    return Side(str(folder), sorted(cell for cell, _ in located), roots[0])


def compare(a: Side, b: Side, rule: str = "last", stale_too: bool = False) -> Comparison:
    """Compares two sides by their last epochs or their best ones (``rule``). Stale cells are unmeasured unless ``stale_too``.

    ConfigError if no cells pair up, if a cell pairs up with several, or if both sides have the same cell.
    """
    single = len(a.cells) == len(b.cells) == 1
    differ = [field for field in MAY_DIFFER if not _values(a, field) & _values(b, field)]
    same = ["dataset", "category", *(field for field in MAY_DIFFER if field not in differ)]
    if single and _values(a, "seed") != _values(b, "seed"):
        differ.append("seed")
    else:
        same.append("seed")
    matched, unpaired = _matched(a, b, same)
    of_a, of_b = (collect([pair[place] for pair in matched], side.root, stale_too) for place, side in enumerate((a, b)))
    hashes_a, hashes_b = (of.origins.set_index(CELL[:7])[[*HASHES]].T.to_dict("list") for of in (of_a, of_b))
    pairs = []
    for one, other in matched:
        of_pair = (hashes.get(astuple(cell), [None] * len(HASHES)) for hashes, cell in ((hashes_a, one), (hashes_b, other)))
        split, images, features = map(_agree, *of_pair)
        tested = _agree(_tested(a, one), _tested(b, other))
        pairs.append(Pair(one, other, split, images, features, UNKNOWN if (tested, images) == (SAME, OTHER) else tested))
    statuses = ((side, cell, status) for side, of in (("A", of_a), ("B", of_b)) for cell, status in of.status.items())
    unmeasured = [f"{side}: {cell.folder.as_posix()}: {status}" for side, cell, status in statuses if status != DONE]
    moved_a, moved_b = of_a, of_b
    # The bootstrap takes the same path for the same image, and there is one for last epochs only.
    if rule == "last" and all(pair.images != OTHER for pair in pairs):
        moved_a, moved_b = (with_images(replace(of, by_type=of.by_type.head(0))) for of in (of_a, of_b))
    found = list(_differences(moved_a, moved_b, same, rule))
    by_type = _types(of_a, of_b) if single and not unmeasured else None
    return Comparison(differ, pairs, found, unpaired, unmeasured, by_type)


def _values(side: Side, field: str) -> set:
    return {getattr(cell, field) for cell in side.cells}


def _matched(a: Side, b: Side, same: list[str]) -> tuple[list[tuple[Cell, Cell]], list[str]]:
    """The pairs of cells that agree in the fields ``same``, and the cells without a partner."""
    by_key: defaultdict[tuple, tuple[list[Cell], list[Cell]]] = defaultdict(lambda: ([], []))
    for place, side in enumerate((a, b)):
        for cell in side.cells:
            by_key[tuple(getattr(cell, field) for field in same)][place].append(cell)
    pairs, unpaired = [], []
    for ones, others in by_key.values():
        if not ones or not others:
            unpaired += [f"{'A' if ones else 'B'}: {cell.folder.as_posix()}: no partner" for cell in ones or others]
            continue
        for side, of, many in ((a, others, ones), (b, ones, others)):
            if len(many) > 1:
                raise ConfigError(
                    f"{of[0].folder.as_posix()} pairs up with {len(many)} cells of {side.name}, such as "
                    f"{many[0].folder.as_posix()} and {many[1].folder.as_posix()}; name a folder with only one of them."
                )
        if (a.root / ones[0].folder).absolute() == (b.root / others[0].folder).absolute():
            raise ConfigError(f"{ones[0].folder.as_posix()} is in both {a.name} and {b.name}; name two without a common cell.")
        pairs.append((ones[0], others[0]))
    if not pairs:
        alike = f"{', '.join(same[:-1])} and {same[-1]}"
        raise ConfigError(f"{a.name} and {b.name} have no two cells with the same {alike}; name cells that do.")
    return pairs, unpaired


def _differences(of_a: Collected, of_b: Collected, same: list[str], rule: str) -> Iterator[Difference]:
    one, other = of_a.metrics, of_b.metrics
    one, other = one.assign(last=one[rule], a=one[rule]), other.assign(last=other[rule], b=other[rule])
    pairs = paired(one, other, same)
    there = pairs["last"].notna()
    pairs = pairs.assign(a=pairs["a"].where(there), b=pairs["b"].where(there))
    theirs = [f"{field}_base" if f"{field}_base" in pairs else field for field in SETTING]
    for against, part in pairs.groupby(theirs, sort=False):
        for setting, of in settings(part):
            columns = ["last", "a", "b"]
            done = int((of["status"] == DONE).sum() / of["metric"].nunique())
            rows = measured_means(setting, of, columns), category_rows(setting, of, columns)
            yield Difference(setting, Setting(*against), done, *rows)


def _types(of_a: Collected, of_b: Collected) -> pd.DataFrame:
    columns = ["type", "n", "known", "image_auroc", "pixel_auroc"]
    return of_a.by_type[columns].merge(of_b.by_type[columns], on="type", suffixes=("_a", "_b"))


def _agree(one, other) -> str:
    if not one or not other:
        return UNKNOWN
    return SAME if one == other else OTHER


def _tested(side: Side, cell: Cell) -> list[str]:
    """Paths of the test images; empty if they are not known."""
    try:
        return sorted(row.path for row in scores_of(side.root / cell.folder))
    except BgadError:
        return []


# The comparison as text for people, and as JSON values for scripts.


def as_text(a: Side, b: Side, rule: str, found: Comparison) -> str:
    lines = [f"A: {a.name}", f"B: {b.name}", f"They differ in {', '.join(found.differ) or 'their project'}.", ""]
    lines += [f"Metrics of the {rule} epochs in percent."]
    heads = ["over", "metric", "A", "B", "A - B", "95 % interval", "covers", "seeds"]
    for one in found.differences:
        pairs = "1 pair" if one.pairs == 1 else f"{one.pairs} pairs"
        lines += ["", f"A: {title(one.setting)}", f"B: {title(one.against)}", f"{pairs} of measured cells", ""]
        shown = [[row.full_label, NAMES[metric], *_metric_cells(row, metric)] for row in one.means for metric in SHOWN]
        lines += [tabulate(shown, heads, disable_numparse=True, colalign=["left"] * 2 + ["right"] * 4 + ["left", "right"])]
    if found.by_type is not None and len(found.by_type):
        lines += ["", "By defect type, last epochs:", "", _types_table(found.by_type)]
    lines += ["", *_test_images(found.pairs)]
    for heading, of in (("No partner", found.unpaired), ("Not measured", found.unmeasured)):
        lines += ["", f"{heading}: {len(of)}", *(f"  {line}" for line in of)] if of else []
    return "\n".join(lines)


def as_values(a: Side, b: Side, rule: str, found: Comparison) -> dict:
    """In percent, null if not measured. Has every category and PRO (released) in addition to what the text has."""
    return {
        "a": a.name,
        "b": b.name,
        "rule": rule,
        "differ": found.differ,
        "differences": [values for one in found.differences for values in _difference(one)],
        "by_type": None
        if found.by_type is None
        else [{name: _value(value) for name, value in row.items()} for row in found.by_type.to_dict("records")],
        "pairs": [pair._asdict() | {"a": pair.a.folder.as_posix(), "b": pair.b.folder.as_posix()} for pair in found.pairs],
        "unpaired": found.unpaired,
        "unmeasured": found.unmeasured,
    }


def _metric_cells(row: Row, metric: str) -> list[str]:
    """A, B, A - B, its interval and what that covers, and the number of seeds, as text."""
    difference = row.of(metric, "last")
    mean, low, high = map(signed, difference.printed)
    interval = f"[{low}, {high}]" if low else ""
    shown = [number(row.of(metric, side).mean) for side in ("a", "b")]
    seeds = str(difference.n) if difference.n == row.asked else f"{difference.n} of {row.asked}"
    return [cell or NONE for cell in (*shown, mean, interval, difference.covers, seeds)]


def _types_table(by_type: pd.DataFrame) -> str:
    rows = []
    for row in by_type.to_dict("records"):
        known = ["yes" if row[f"known_{side}"] else "no" for side in "ab"]
        values = []
        for metric in SHOWN[:2]:
            one, other = row[f"{metric}_a"], row[f"{metric}_b"]
            values += [number(one) or NONE, number(other) or NONE, signed(one - other) or NONE]
        images = " and ".join(map(str, dict.fromkeys([row["n_a"], row["n_b"]])))
        rows.append([row["type"], images, *known, *values])
    of_metrics = [f"{NAMES[m].split()[0]} {of}" for m in SHOWN[:2] for of in ("A", "B", "A - B")]
    heads = ["type", "images", "A knows", "B knows", *of_metrics]
    return tabulate(rows, heads, disable_numparse=True, colalign=["left"] + ["right"] * 9)


def _test_images(pairs: list[Pair]) -> list[str]:
    """Whether the pairs have the same test images; otherwise a difference means little."""
    images = Counter(pair.test_images for pair in pairs)
    lines = [f"Test images: {_counted(images)}."]
    lines += [
        f"{name} ({key}): {_counted(Counter(of))}."
        for (key, name), of in zip(HASHES.items(), [*zip(*pairs, strict=True)][2:5], strict=True)
    ]
    if set(images) != {SAME}:
        lines.append("WARNING: some pairs may have different test images, which can cause a difference.")
    return lines


def _counted(of: Counter) -> str:
    return ", ".join(f"{name} in {count}" for name, count in of.items()) + (" pair" if of.total() == 1 else " pairs")


def _difference(one: Difference) -> list[dict]:
    rows = [*one.means, *(one.categories if len(one.categories) > 1 else [])]
    common = {"a": asdict(one.setting), "b": asdict(one.against), "pairs": one.pairs}
    return [{**common, "over": row.full_label, "metrics": {metric: _metric(row, metric) for metric in METRICS}} for row in rows]


def _metric(row: Row, metric: str) -> dict:
    difference = row.of(metric, "last")
    values = (row.of(metric, "a").mean, row.of(metric, "b").mean, difference.mean, *difference.interval)
    named = zip(("a", "b", "difference", "low", "high"), map(_value, values), strict=True)
    return {**dict(named), "covers": difference.covers or None, "seeds": difference.n, "asked": row.asked}


def _value(value):
    """``value`` for JSON, with null for nan."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value
