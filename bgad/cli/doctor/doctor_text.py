"""What the doctor found as text for people, and as JSON values for scripts."""

from tabulate import tabulate

from bgad.cli.doctor.doctor import Need, Report
from bgad.report.tables.format import NONE

HEADS = ["suite", "cells", "done", "to do", "hours", "disk, GB", "can run"]


def as_text(found: Report) -> str:
    lines = []
    for findings in (found.machine, found.datasets, found.weights):
        rows = [[one.what, one.state + (f"\n-> {one.remedy}" if one.remedy else "")] for one in findings]
        lines += [tabulate(rows, tablefmt="plain", disable_numparse=True), ""]
    align = ["left", *["right"] * 5, "left"]
    lines += [tabulate([_row(need) for need in found.suites], HEADS, disable_numparse=True, colalign=align), ""]
    lines += ["Hours and disk are for the cells to do: estimates, with all cores at work or on one GPU, and the least disk."]
    for need in found.suites:
        lines += [f"{need.suite}: {why}" for why in need.cannot]
        if not need.cannot and need.finished < need.cells:
            lines.append(f"{need.suite}: {'' if need.hours.hours is None else 'hours of '}{need.hours.basis}")
    return "\n".join(lines)


def as_values(found: Report) -> dict:
    findings = {name: [one._asdict() for one in getattr(found, name)] for name in ("machine", "datasets", "weights")}
    suites = [
        need._asdict() | {"hours": need.hours.hours, "basis": need.hours.basis, "not_counted": need.hours.more}
        for need in found.suites
    ]
    return findings | {"suites": suites}


def _row(need: Need) -> list[str]:
    hours = need.hours.hours
    shown = "not known" if hours is None else f"{hours:.2g}" if hours < 100 else f"{hours:.0f}"
    shown = "> " * (hours is not None and need.hours.more > 0) + shown
    to_do = need.cells - need.finished
    disk = f"{need.disk_mb / 1000:.1f}"
    counts = [str(need.cells), str(need.finished), str(to_do)] if need.cells else [NONE] * 3
    return [need.suite, *counts, *([NONE] * 2 if not to_do else [shown, disk]), _can_run(need)]


def _can_run(need: Need) -> str:
    if need.cannot:
        return "no"
    return "after downloads" if need.downloads else "yes"
