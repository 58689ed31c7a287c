"""A thousand tiny cells with one command, 5 % of which are killed: does memory or time grow, is a cell lost?

    python benchmarks/soak.py [--cells 1000] [--output benchmarks/records]      an hour on two cores; Linux only (/proc)

Runs its own recipe and suite in a temporary copy of the workflow. Some cells are drawn at random, and each process that trains
one of them is killed with signal 9 shortly after it starts; the workflow does not know of this. In the end the table must name
exactly the killed cells, Snakemake's memory must not grow with finished cells, and the last hundred cells must take
no longer than the first. Anything else ends in an error. soak.json has a summary, soak.png shows every cell.

Processor time is measured, too, since wall time depends on the other work of the machine.
"""

import argparse
import csv
import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bgad import devices
from bgad.config.cells import Cell, expand
from bgad.config.settings import Config, load_suite, read_yaml, validated
from bgad.data.layouts import catalogue
from bgad.evaluation.outputs import environment
from bgad.io import whole, write_json
from bgad.randomness import numpy_generator
from bgad.report.collect import DONE, collect

TABLE = "reports/soak/table.md"
FAILING = 0.05  # of the cells
RECIPE = {  # a second of training; this measures what is around it
    "base": "demo",
    "image_size": 32,
    "flow": {"blocks": 1},
    "schedule": {"meta_epochs": 2, "evaluate_every": 1},
    "sampling": {"level_steps": [20, 10, 5]},
    "anomalies": {"strategy": "repeat"},
}
GROWTH_MOST = 1.1  # allowed growth of Snakemake's memory and of a cell's processor time, from the first of a run to the last
LOOK = 0.2  # seconds between two looks at the processes
MEMORY = 10.0  # seconds between two looks at Snakemake's memory
TICKS = os.sysconf("SC_CLK_TCK")  # of processor time in a second
MB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Seen:
    """Measurements while Snakemake ran.

    processor_s:  of each cell's last process, up to LOOK seconds before its end
    memory:       of Snakemake itself: seconds since the start, finished jobs, resident MB, processor seconds
    kills:        number of killed processes of each chosen cell
    """

    processor_s: dict[str, float] = field(default_factory=dict)
    memory: list[tuple[float, int, float, float]] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/records"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that Snakemake ends, too, and the folder is removed
    with tempfile.TemporaryDirectory(prefix="soak") as temporary:
        folder = Path(temporary)
        cells = prepare(folder, options.cells)
        rng = numpy_generator("soak", len(cells))
        chosen = {cells[number].folder.as_posix() for number in rng.permutation(len(cells))[: round(FAILING * len(cells))]}
        seen, seconds, status = run(folder, options.cores, chosen, rng)
        results = summary(folder, cells, chosen, seen, seconds)
    found = {"date": datetime.date.today().isoformat(), "cores": options.cores, "snakemake_ended_with": status, **results}
    found |= {"recipe": RECIPE, "environment": environment(devices.choose("cpu", 1))}
    draw(found, options.output / "soak.png")
    short = {key: value for key, value in found.items() if key not in ("memory", "processor_s", "wall_s")}
    short |= {key: len(found[key]) for key in ("chosen_to_fail", "named_in_the_table")}
    write_json(options.output / "soak.json", short)
    print(short)
    if not (results["named_in_the_table"] == results["chosen_to_fail"] and status):
        raise SystemExit("error: the table does not name exactly the cells that were killed.")
    for name in ("snakemake_mb", "processor_s_of_first_and_last"):
        first, last = results[name]
        if last > GROWTH_MOST * first:
            raise SystemExit(f"error: {name} went from {first} to {last}, more than {GROWTH_MOST} times.")


def prepare(folder: Path, count: int) -> list[Cell]:
    """The workflow with a suite of ``count`` cells: three per seed, one of each method."""
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(name, folder / name)
    shutil.copy("Snakefile", folder)
    (folder / "config/recipes/soak.yaml").write_text(yaml.safe_dump(RECIPE))
    common = {"recipe": "soak", "dataset": "mini", "categories": ["brick"], "splits": ["seen"]}
    seeds, left = divmod(count, 3)
    grid = [
        {**common, "k": [0], "methods": ["bgad-wo"], "seeds": [*range(seeds + (left > 0))]},
        {**common, "k": [0], "methods": ["nf"], "seeds": [*range(seeds + (left > 1))]},
        {**common, "k": [1], "methods": ["bgad"], "seeds": [*range(seeds)]},
    ]
    suite = folder / "config/suites/soak.yaml"
    suite.write_text(yaml.safe_dump({"title": "A soak", "question": "Does memory or time grow?", "grid": grid}))
    values = read_yaml(folder / "config/config.yaml")
    (folder / "config/config.yaml").write_text(yaml.safe_dump({**values, "suites": ["soak"]}))
    config = validated(Config, read_yaml(folder / "config/config.yaml"), "config/config.yaml")
    return expand(load_suite(suite), lambda dataset: catalogue(dataset, config.datasets[dataset]))


def run(folder: Path, cores: int, chosen: set[str], rng: np.random.Generator) -> tuple[Seen, float, int]:
    """Runs the suite and kills the processes that train ``chosen`` cells; returns also seconds and exit status."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), TABLE]
    seen, started, looked = Seen(), time.monotonic(), -MEMORY
    doomed: dict[tuple[int, str], float] = {}  # processes to kill, and when; Linux uses a process's number again
    with (folder / "said.log").open("w+") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                now = time.monotonic() - started
                for number, cell in training(folder):
                    seen.processor_s[cell] = processor_seconds(number)
                    if cell in chosen and now > doomed.setdefault((number, cell), now + rng.uniform(0, 1)):
                        doomed[number, cell] = float("inf")
                        seen.kills[cell] = seen.kills.get(cell, 0) + 1
                        with suppress(ProcessLookupError):
                            os.kill(number, signal.SIGKILL)
                if now - looked >= MEMORY:
                    looked = now
                    resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * MB
                    seen.memory.append((now, jobs_done(folder), resident, processor_seconds(process.pid)))
                time.sleep(LOOK)
        finally:
            if process.poll() is None:
                process.terminate()  # ends its jobs, too
            process.wait()
    return seen, time.monotonic() - started, process.returncode


def training(folder: Path) -> Iterator[tuple[int, str]]:
    """The processes that train cells of the project in ``folder``, with the cells' folders."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            arguments = (entry / "cmdline").read_text(errors="replace").split("\0")
            if "cell" in arguments and (entry / "cwd").readlink() == folder.resolve():
                yield int(entry.name), arguments[arguments.index("cell") + 1]


def processor_seconds(process: int) -> float:
    """User and system time of a process so far; 0 if it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0.0


def jobs_done(folder: Path) -> int:
    return len(re.findall(r"^Finished jobid", (folder / "said.log").read_text(errors="replace"), flags=re.MULTILINE))


def summary(folder: Path, cells: list[Cell], chosen: set[str], seen: Seen, seconds: float) -> dict[str, Any]:
    """Everything that was measured in a run."""
    status = collect(cells, folder).status
    with (folder / TABLE).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        named = [str(Path(row["row"]).parent) for row in csv.DictReader(file) if row["section"] == "missing"]
    benchmarks = [folder / cell.folder / "benchmark.tsv" for cell, said in status.items() if said == DONE]
    in_order = sorted(benchmarks, key=lambda path: path.stat().st_mtime_ns)
    walls = [float(path.read_text().splitlines()[1].split("\t")[0]) for path in in_order]
    processor = [seen.processor_s[path.parent.relative_to(folder).as_posix()] for path in in_order]
    part = min(100, len(in_order) // 4)
    settled = seen.memory[len(seen.memory) // 10 :]  # the plan is made and jobs run
    slope = np.polyfit([jobs for _, jobs, _, _ in settled], [resident for _, _, resident, _ in settled], 1)[0]
    return {
        "cells": len(cells),
        "done": len(in_order),
        "chosen_to_fail": sorted(chosen),
        "named_in_the_table": sorted(named),
        "said_of_them": sorted({said for said in status.values() if said != DONE}),
        "processes_killed": sum(seen.kills.values()),
        "seconds": round(seconds, 1),
        "snakemake_mb_per_1000_jobs": round(1000 * float(slope), 2),
        "snakemake_mb": [round(settled[place][2], 1) for place in (0, -1)],
        "snakemake_processor_s_a_job": round(seen.memory[-1][3] / seen.memory[-1][1], 2),
        "compared": part,
        "processor_s_of_first_and_last": [round(float(np.mean(of)), 2) for of in (processor[:part], processor[-part:])],
        "wall_s_of_first_and_last": [round(float(np.mean(of)), 2) for of in (walls[:part], walls[-part:])],
        "memory": [[round(value, 1) for value in row] for row in seen.memory],
        "processor_s": [round(value, 2) for value in processor],
        "wall_s": [round(value, 2) for value in walls],
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Plots Snakemake's memory against finished jobs, and the time of each cell in the order they finished."""
    from bgad.report.plots import style as ps

    dots, line = {"ls": "", "marker": ".", "ms": 3}, {"lw": 1.3}
    looks = [{"color": ps.COLOURS[0], **line}, {"color": ps.COLOURS[1], **dots}, {"color": ps.PALE, **dots}]
    labels = ["memory of Snakemake, resident", "processor time of a cell", "wall time of a cell"]
    with ps.style():
        figure, ((memory, times),) = ps.panels(1, 2, 4.2, [2.4])
        memory.plot([row[1] for row in found["memory"]], [row[2] for row in found["memory"]], **looks[0])
        times.plot(found["wall_s"], **looks[2])
        times.plot(found["processor_s"], **looks[1])
        memory.set(xlim=(0, None), ylim=(0, None), xlabel="jobs done", ylabel="MB")
        times.set(xlim=(0, None), ylim=(0, None), xlabel="cells, in the order they finished", ylabel="seconds")
        failed = len(found["chosen_to_fail"])
        caption = f"{found['cells']} cells on {found['cores']} cores, {failed} of them killed. {found['environment']['cpu']}."
        handles = [ps.handle(label, **look) for label, look in zip(labels, looks, strict=True)]
        ps.finish(figure, "A soak", caption, handles)
        with whole(path) as temporary:
            figure.savefig(temporary, dpi=ps.DOTS_PER_INCH, metadata={"Software": None})


if __name__ == "__main__":
    main()
