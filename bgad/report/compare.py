"""Two cells, or two sets of cells, against each other: differences of their figures, paired over seeds.

Which cells make a pair follows from what differs. Of recipe, split, k and method those differ of which A and B have no value
in common; in the others, and in data set, category and seed, the cells of a pair agree. Two single cells may also have
different seeds.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bgad.config.cells import Cell
from bgad.errors import BgadError
from bgad.report.collect import DONE, Collected, collect, scores_of
from bgad.report.delong import difference_of_aurocs
from bgad.report.differences import paired
from bgad.report.statistics import SETTING, Row, Setting, category_rows, measured_means, settings

MAY_DIFFER = ("recipe", "split", "k", "method")
SAME, OTHER, UNKNOWN = "the same", "different", "not known"


class Side(NamedTuple):
    """One side of a comparison: as the user named it, its cells, and the folder that their ``results`` lies in."""

    name: str
    cells: list[Cell]
    root: Path


class Pair(NamedTuple):
    """A cell of each side. Whether their splits (known anomalies included, by split_sha256) and their test images (by the
    paths in scores.csv) are the same, different or not known."""

    a: Cell
    b: Cell
    split: str
    test_images: str


@dataclass(frozen=True)
class Difference:
    """The cells of a setting of A against those of one of B. The ``spread`` of a row has of each metric the columns a, b and
    last (a - b), in percent. ``means``: over categories; ``categories``: each of them."""

    setting: Setting
    against: Setting
    pairs: int  # of which both cells have figures
    means: list[Row]
    categories: list[Row]


@dataclass(frozen=True)
class Comparison:
    """``differ``: the fields in which the cells of a pair differ. ``unpaired`` and ``unmeasured`` name cells with the reason.
    Of two single cells also ``by_type``: a row for each defect type that both tested; and ``over_images``: a - b of the image
    AUROCs of their last epochs with its 95 % interval over test images, in percent."""

    differ: list[str]
    pairs: list[Pair]
    differences: list[Difference]
    unpaired: list[str]
    unmeasured: list[str]
    by_type: pd.DataFrame | None = None
    over_images: tuple[float, float, float] | None = None


def cells_below(folder: Path) -> Side:
    """The cells in ``folder``, finished or begun; BgadError where there is none."""
    found = sorted({path.parent for name in ("metrics.json", "train.log") for path in folder.rglob(name)})
    located = [Cell.located(path) for path in found]
    roots = sorted({root for _, root in located})
    if not roots:
        raise BgadError(f"{folder}: holds no cell; name a cell's folder, one above several, or a suite.")
    if len(roots) > 1:
        raise BgadError(f"{folder}: holds the results of several projects; name one of {', '.join(map(str, roots))}.")
    return Side(str(folder), sorted(cell for cell, _ in located), roots[0])


def compare(a: Side, b: Side, rule: str = "last", stale_too: bool = False) -> Comparison:
    """The comparison of two sides by the figures of their last epochs, or of their best ones (``rule``).

    Stale cells (report/stale.py) count as unmeasured unless ``stale_too``.

    BgadError where no cells make a pair, where a cell could be paired with several, and where both sides have the same cell.
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
    splits = [of.origins.set_index([*asdict(matched[0][0])])["split_sha256"].to_dict() for of in (of_a, of_b)]
    pairs = [
        Pair(
            one,
            other,
            _agree(*(of.get(tuple(asdict(c).values())) for of, c in zip(splits, (one, other), strict=True))),
            _agree(_tested(a, one), _tested(b, other)),
        )
        for one, other in matched
    ]
    statuses = ((side, cell, status) for side, of in (("A", of_a), ("B", of_b)) for cell, status in of.status.items())
    unmeasured = [f"{side}: {cell.folder.as_posix()}: {status}" for side, cell, status in statuses if status != DONE]
    found = list(_differences(of_a, of_b, same, rule))
    if not single or unmeasured:
        return Comparison(differ, pairs, found, unpaired, unmeasured)
    over_images = _over_images(a, b) if pairs[0].test_images == SAME else None
    return Comparison(differ, pairs, found, unpaired, unmeasured, _types(of_a, of_b), over_images)


def _values(side: Side, field: str) -> set:
    return {getattr(cell, field) for cell in side.cells}


def _matched(a: Side, b: Side, same: list[str]) -> tuple[list[tuple[Cell, Cell]], list[str]]:
    """The pairs of cells that agree in the fields ``same``, and the cells that have no partner."""
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
                raise BgadError(
                    f"{of[0].folder.as_posix()} could be compared with {len(many)} cells of {side.name}, such as "
                    f"{many[0].folder.as_posix()} and {many[1].folder.as_posix()}; name a folder that holds one of them."
                )
        if (a.root / ones[0].folder).absolute() == (b.root / others[0].folder).absolute():
            raise BgadError(f"{ones[0].folder.as_posix()} is in {a.name} and in {b.name}; name two that share no cell.")
        pairs.append((ones[0], others[0]))
    if not pairs:
        alike = f"{', '.join(same[:-1])} and {same[-1]}"
        raise BgadError(f"{a.name} and {b.name} have no two cells of the same {alike}; name cells that have.")
    return pairs, unpaired


def _differences(of_a: Collected, of_b: Collected, same: list[str], rule: str) -> Iterator[Difference]:
    one, other = of_a.figures, of_b.figures
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
    """Paths of the test images; none where they are not known."""
    try:
        return sorted(row.path for row in scores_of(side.root / cell.folder))
    except BgadError:
        return []


def _over_images(a: Side, b: Side) -> tuple[float, float, float]:
    rows = [sorted(scores_of(side.root / side.cells[0].folder)) for side in (a, b)]  # by their paths
    labels = [row.anomalous for row in rows[0]]
    mean, low, high = difference_of_aurocs(labels, *([row.score for row in of] for of in rows))
    return 100 * mean, 100 * low, 100 * high
