"""A comparison as text for people, and as JSON values for scripts."""

import math
from collections import Counter
from dataclasses import asdict

from tabulate import tabulate

from bgad.report.collect import METRICS, SHOWN
from bgad.report.compare import SAME, Comparison, Difference, Pair, Side
from bgad.report.statistics import Row, Spread, number, signed
from bgad.report.tables.format import NAMES, NONE, title

HEADS = ["over", "metric", "A", "B", "A - B", "95 % interval", "seeds"]


def as_text(a: Side, b: Side, rule: str, found: Comparison) -> str:
    lines = [f"A: {a.name}", f"B: {b.name}", f"They differ in {', '.join(found.differ) or 'the project that they lie in'}.", ""]
    lines += [f"Figures of the {rule} epochs in percent; intervals by Student's t over the differences of seeds."]
    for one in found.differences:
        pairs = "1 pair" if one.pairs == 1 else f"{one.pairs} pairs"
        lines += ["", f"A: {title(one.setting)}", f"B: {title(one.against)}", f"{pairs} of cells with figures", ""]
        shown = [[row.full_label, NAMES[metric], *_figures(row, metric)] for row in one.means for metric in SHOWN]
        lines += [tabulate(shown, HEADS, disable_numparse=True, colalign=["left"] * 2 + ["right"] * 5)]
    if found.over_images:
        difference, low, high = found.over_images
        interval = NONE if math.isnan(low) else f"[{signed(low)}, {signed(high)}]"
        interval += " (without width it says nothing about other images)" * (low == high)
        lines += ["", f"Image AUROC of the last epochs over the same test images: A - B {signed(difference)}, DeLong's 95 % "]
        lines[-1] += f"interval over images {interval}"
    if found.by_type is not None and len(found.by_type):
        lines += ["", "By defect type, last epochs:", "", _types(found)]
    lines += ["", *_test_images(found.pairs)]
    for heading, of in (("Without a partner", found.unpaired), ("Without figures", found.unmeasured)):
        lines += ["", f"{heading}: {len(of)}", *(f"  {line}" for line in of)] if of else []
    return "\n".join(lines)


def as_values(a: Side, b: Side, rule: str, found: Comparison) -> dict:
    """Percent, null where there is no figure. Beside what the text has, every category and PRO (released)."""
    return {
        "a": a.name,
        "b": b.name,
        "rule": rule,
        "differ": found.differ,
        "differences": [values for one in found.differences for values in _difference(one)],
        "over_images": found.over_images
        and dict(zip(("difference", "low", "high"), map(_value, found.over_images), strict=True)),
        "by_type": None if found.by_type is None else [_plain(row) for row in found.by_type.to_dict("records")],
        "pairs": [
            {"a": one.a.folder.as_posix(), "b": one.b.folder.as_posix(), "split": one.split, "test_images": one.test_images}
            for one in found.pairs
        ],
        "unpaired": found.unpaired,
        "unmeasured": found.unmeasured,
    }


def _figures(row: Row, metric: str) -> list[str]:
    """A, B, A - B, its interval and the number of seeds, as they are shown."""
    difference = row.of(metric, "last")
    mean, low, high = map(signed, difference.printed)
    interval = f"[{low}, {high}]" if low else "one pair, no interval" if difference.n else ""
    shown = [number(row.of(metric, side).mean) for side in ("a", "b")]
    seeds = str(difference.n) if difference.n == row.asked else f"{difference.n} of {row.asked}"
    return [cell or NONE for cell in (*shown, mean, interval, seeds)]


def _types(found: Comparison) -> str:
    rows = []
    assert found.by_type is not None  # who calls has looked
    for row in found.by_type.to_dict("records"):
        known = ["yes" if row[f"known_{side}"] else "no" for side in "ab"]
        figures = []
        for metric in SHOWN[:2]:
            one, other = row[f"{metric}_a"], row[f"{metric}_b"]
            figures += [number(one) or NONE, number(other) or NONE, signed(one - other) or NONE]
        images = " and ".join(map(str, dict.fromkeys([row["n_a"], row["n_b"]])))
        rows.append([row["type"], images, *known, *figures])
    heads = [
        "type",
        "images",
        "A knows",
        "B knows",
        *(f"{NAMES[m].split()[0]} {of}" for m in SHOWN[:2] for of in ("A", "B", "A - B")),
    ]
    return tabulate(rows, heads, disable_numparse=True, colalign=["left"] + ["right"] * 9)


def _test_images(pairs: list[Pair]) -> list[str]:
    """Whether the pairs are of the same test images, which a difference is worth little without."""
    images = Counter(pair.test_images for pair in pairs)
    splits = Counter(pair.split for pair in pairs)
    lines = [f"Test images: {_counted(images)}. Splits (split_sha256): {_counted(splits)}."]
    if set(images) != {SAME}:
        lines.append("WARNING: not all pairs are known to be of the same test images, so that a difference may be the images'.")
    return lines


def _counted(of: Counter) -> str:
    return ", ".join(f"{name} in {count}" for name, count in of.items()) + (" pair" if of.total() == 1 else " pairs")


def _difference(one: Difference) -> list[dict]:
    rows = [*one.means, *(one.categories if len(one.categories) > 1 else [])]
    return [
        {
            "a": asdict(one.setting),
            "b": asdict(one.against),
            "pairs": one.pairs,
            "over": row.full_label,
            "metrics": {metric: _metric(row, metric) for metric in METRICS},
        }
        for row in rows
    ]


def _metric(row: Row, metric: str) -> dict:
    difference: Spread = row.of(metric, "last")
    low, high = difference.interval
    values = {
        "a": row.of(metric, "a").mean,
        "b": row.of(metric, "b").mean,
        "difference": difference.mean,
        "low": low,
        "high": high,
    }
    return {**{name: _value(value) for name, value in values.items()}, "seeds": difference.n, "asked": row.asked}


def _plain(row: dict) -> dict:
    return {name: _value(value) if isinstance(value, float) else value for name, value in row.items()}


def _value(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
