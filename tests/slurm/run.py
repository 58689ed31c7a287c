"""A suite on a real one-node Slurm, through workflow/profiles/slurm and with injected failures, against one without Slurm.

    python tests/slurm/run.py [--suite SUITE] [--against FOLDER]

While the suite runs, one of its jobs is cancelled, and the node's daemon is killed and started again once Slurm has noticed.
Then the table and every cell's metrics, scores and model must equal, bit for bit, those of a run without Slurm, or in FOLDER.
The default suite is a small one. If Slurm cannot run here, the script says why and succeeds.
"""

import argparse
import csv
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml
from one_node import OneNode, wait_for, what_is_missing

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ["snakemake-executor-plugin-slurm==2.8.0", "snakemake-executor-plugin-slurm-jobstep==0.6.1"]
PROFILE = "workflow/profiles/slurm"
# The profile's variables for this cluster, with two cells per job; and shorter waits than on a real one.
OURS = {"gpu_partition: gpu ": "gpu_partition: long", "gpus: 1 ": "gpus: 0", "cells: 1 ": "cells: 2 "}
QUICKER = {"status-checks: 10": "status-checks: 2", "latency-wait: 60": "latency-wait: 10"}
OF_THE_RUN = ("train.log", "benchmark.tsv")  # not compared: they have times
SMALL = """
title: A small suite for a small cluster
question: Does a cluster give the same numbers?
grid:
  - {recipe: tiny, dataset: mini, categories: [gravel], splits: [seen], k: [0], methods: [bgad-wo, nf, padim], seeds: [0]}
  - {recipe: tiny, dataset: mini, categories: [gravel], splits: [seen], k: [1], methods: [bgad], seeds: [0]}
"""


def main(suite: str | None, against: Path | None) -> int:
    missing = what_is_missing()
    if missing:
        print(f"Skipped: {missing}.")
        return 0
    with tempfile.TemporaryDirectory(prefix="bgad-slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # munge refuses folders that others can write
        there = copy_of_the_project(folder / "a cluster", suite)
        here = against or copy_of_the_project(folder / "here", suite)
        suite = suite or "small"
        if against is None:
            run_here(here, suite)
        return run_there(there, suite, folder) or compare(here, there, suite)


def copy_of_the_project(folder: Path, suite: str | None) -> Path:
    folder.mkdir()
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True)
    if suite is None:
        recipe = yaml.safe_load((folder / "config/recipes/demo.yaml").read_text())
        recipe["image_size"], recipe["flow"]["blocks"], recipe["sampling"]["level_steps"] = 64, 2, [40, 20, 10]
        (folder / "config/recipes/tiny.yaml").write_text(yaml.safe_dump(recipe))
        (folder / "config/suites/small.yaml").write_text(SMALL)
        change(folder / "config/config.yaml", {"suites: [": "suites: [small, "})
    return folder


def change(path: Path, texts: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in texts.items():
        if old not in text:
            raise SystemExit(f"{path} no longer has {old!r}; adapt {Path(__file__).name}.")
        text = text.replace(old, new)
    path.write_text(text)


def command(python: Path | str, suite: str, *options: str) -> list[str]:
    return [str(python), "-m", "snakemake", *options, f"reports/{suite}/table.md"]


def run_here(project: Path, suite: str) -> None:
    start = time.monotonic()
    plain = command(sys.executable, suite, "--cores", "2")
    done = subprocess.run(plain, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"The run without Slurm failed:\n{done.stdout}{done.stderr}")
    print(f"Without Slurm: {time.monotonic() - start:.0f} s", flush=True)


def run_there(project: Path, suite: str, folder: Path) -> int:
    """Snakemake's exit status."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    got = subprocess.run([*pip, "--target", str(folder / "plugins"), *PLUGINS], capture_output=True, text=True, check=False)
    if got.returncode:
        raise SystemExit(f"pip could not install {', '.join(PLUGINS)}:\n{got.stderr}")
    change(project / PROFILE / "profile.yaml", OURS | QUICKER)
    # Snakemake passes the interpreter's path to its jobs unquoted, so it must not have a space.
    environment = folder / "environment"
    environment.symlink_to(sys.prefix)
    start = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s: {what}", flush=True)

    with OneNode(folder / "slurm") as node, (folder / "run.log").open("w+") as log:
        path = [str(folder / "plugins"), *filter(None, [node.environment.get("PYTHONPATH")])]
        run = subprocess.Popen(
            command(environment / "bin" / "python", suite, "--profile", PROFILE),
            cwd=project,
            env=node.environment | {"PYTHONPATH": ":".join(path)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            cancelled = training_job(node, run)
            wait_for(lambda: any(project.glob("results/**/metrics.json")), "a finished cell", seconds=900)
            node.output_of("scancel", cancelled)
            say(f"cancelled job {cancelled}, with {cells_of(project)} cells finished")
            killed = training_job(node, run, but=cancelled)
            node.kill_node()
            say(f"killed the node's daemon under job {killed}")
            node.wait_for_node("down")
            node.start_node()
            say("started it again")
            status = run.wait(timeout=3600)
        finally:
            run.kill()
            run.wait()
            log.seek(0)
            said = log.read()
            jobs = said.count("has been submitted with SLURM jobid")
            say(f"{cells_of(project)} cells finished, {jobs} jobs submitted, status {run.returncode}")
            if run.returncode:
                print(said)
    return status


def training_job(node: OneNode, run: subprocess.Popen, but: str = "") -> str:
    """Waits for a running job of cells and returns its number."""
    found: list[str] = []

    def is_there() -> bool:
        lines = node.output_of("squeue", "--noheader", "--states=RUNNING", "--format=%i %k").splitlines()
        found[:] = [line.split()[0] for line in lines if "cells" in line and line.split()[0] != but]
        return bool(found) or run.poll() is not None

    wait_for(is_there, "a training job", seconds=1800)
    if not found:
        raise SystemExit("Snakemake ended before a job of cells could be disturbed.")
    return found[0]


def cells_of(project: Path) -> int:
    return len(list(project.glob("results/**/metrics.json")))


def compare(here: Path, there: Path, suite: str) -> int:
    names = [f"reports/{suite}/table.md", f"reports/{suite}/table.csv"]
    for metrics in sorted(there.glob("results/**/metrics.json")):
        files = (path for path in metrics.parent.rglob("*") if path.is_file() and path.name not in OF_THE_RUN)
        names += [str(path.relative_to(there)) for path in files]
    different = [name for name in names if content(here / name) != content(there / name)]
    print(f"{len(names) - len(different)} of {len(names)} files of the table and {cells_of(there)} cells are the same")
    for name in different:
        print(f"  differs: {name}")
    return 1 if different else 0


def content(path: Path) -> bytes | dict | list:
    """The bytes of a file; of metrics.json, history.csv and scored.pt, everything except times and environment."""
    if path.name == "scored.pt":  # its history has times
        found = torch.load(path, weights_only=True)["found"]
        return {epoch: [part.numpy().tobytes() for part in scores] for epoch, scores in found.items()}
    if path.name == "metrics.json":
        record = json.loads(path.read_text())
        return {key: value for key, value in record.items() if key not in ("timing", "environment")}
    if path.name == "history.csv":
        with path.open(newline="") as file:
            return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    return path.read_bytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", help="a suite of config/suites; by default a small one")
    parser.add_argument("--against", type=Path, help="a copy of the project in which the suite was run")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that its child processes end, too
    sys.exit(main(asked.suite, asked.against and asked.against.resolve()))
