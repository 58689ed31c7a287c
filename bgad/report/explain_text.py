"""Where a cell's figures came from, as text for people."""

from tabulate import tabulate

from bgad.report.collect import SHOWN
from bgad.report.explain import Image
from bgad.report.statistics import RULES, number
from bgad.report.tables.format import NAMES, NONE


def as_text(found: dict, image: Image | None) -> str:
    metrics, split = found["metrics"], found["split"]
    counts, timing, environment = metrics["counts"], metrics["timing"], metrics["environment"]
    figures = [[NAMES[metric], *(_percent(metrics[metric][rule]) for rule in RULES)] for metric in SHOWN]
    known = ["not known: the split is not the same today"] if split["known"] is None else split["known"] or ["none"]
    rows = [
        ("files", "all there" if not found["missing"] else f"MISSING {', '.join(found['missing'])}"),
        ("logs", ", ".join(found["logs"]) or "none"),
        ("split", split["file"] or "its file is not known without the recipe"),
        ("", _hash(split)),
        ("known anomalies", "\n".join(known)),
        ("trained on", f"{counts['train_normal']} normal, {counts['train_anomalous']} known anomalous images"),
        ("tested on", f"{counts['test_normal']} normal, {counts['test_anomalous']} anomalous images"),
        *((name, f"{found[name].get('file') or ''} {_hash(found[name])}".strip()) for name in ("recipe", "code")),
        ("weights", f"{found['weights']['backbone'] or ''} {_hash(found['weights'])}".strip()),
        ("commit", environment.get("git_commit") or "not known"),
        ("environment", ", ".join(f"{key} {value}" for key, value in environment.items() if key != "git_commit")),
        ("took", ", ".join(f"{key} {value}" for key, value in timing.items() if value is not None)),
        ("again", "\n".join(found["again"])),
    ]
    table = tabulate(figures, ["percent", *RULES], disable_numparse=True, colalign=["left", "right", "right"])
    lines = [found["folder"], "", table, "", tabulate(rows, tablefmt="plain", disable_numparse=True)]
    return "\n".join([*lines, *(["", _of_image(image)] if image else [])])


def _percent(value: float | None) -> str:
    return NONE if value is None else number(value)


def _of_image(image: Image) -> str:
    verdict = {None: "no verdict", True: "called anomalous", False: "called normal"}[image.called_anomalous]
    threshold = "" if image.threshold is None else f" at the threshold {image.threshold:.4f}"
    return f"{image.path} ({image.type}): score {image.score:.4f}, rank {image.rank} of {image.of}, {verdict}{threshold}"


def _hash(of: dict) -> str:
    return f"SHA-256 {of['sha256'][:12]}..., {of['today']}" if of["sha256"] else "no SHA-256 was recorded"
