"""User errors: one sentence of the right kind that names the file or key, exit status 1, and nothing half-written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from folders import make_category, mask_of, truncate, write_mask

from bgad import cli
from bgad.errors import BgadError, ConfigError, DataError, FileError
from bgad.features import LEVELS
from bgad.features.cache import sha256_of

ROOT = Path(__file__).resolve().parent.parent


class Here:
    """A folder with a data set and a configuration, in which commands run."""

    def __init__(self, folder: Path, capsys, monkeypatch):
        self.folder, self.capsys, self.monkeypatch = folder, capsys, monkeypatch
        self.data = folder / "data"
        self.category = make_category(self.data, types={"cut": 7, "hole": 6})
        self.datasets = {"own": {"path": str(self.data)}}
        shutil.copytree(ROOT / "config", folder / "config")
        monkeypatch.chdir(folder)

    def bgad(self, *arguments: object) -> tuple[int, str]:
        """The exit status of a command and its standard error."""
        self.monkeypatch.setattr(sys, "argv", ["bgad", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = self.capsys.readouterr()
        return end.value.code or 0, said.err

    def succeeds(self, *arguments: object) -> None:
        assert self.bgad(*arguments) == (0, "")

    def fails(self, kind: type[BgadError], named: str, *arguments: object) -> None:
        """Asserts that a command fails with that kind of error in one sentence that matches ``named``, and changes no file."""
        before = self.files()
        self.monkeypatch.setattr(sys, "argv", ["bgad", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = self.capsys.readouterr().err
        assert end.value.code == 1, said
        assert type(end.value.__context__) is kind
        assert re.fullmatch(r"error: .+\.\n", said), "one sentence in one line"
        assert re.search(named, said), said
        assert self.files() == before

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file, also hidden ones, with its size and time."""
        files = (path for path in self.folder.rglob("*") if not path.is_dir())
        return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in files}

    def index(self, dataset="own", category="bottle", root=None, output="index.json") -> tuple:
        values = json.dumps(self.datasets)
        names = ("--dataset", dataset, "--category", category, "--root", root or self.data)
        return ("index", *names, "--output", output, "--datasets", values)

    def split(self, index="index.json", split="seen", output="split.json", seed=0) -> tuple:
        return ("split", "--index", index, "--split", split, "--seed", seed, "--output", output)

    def train(self, k=1, method="bgad", split="seen", recipe="demo", cell=None) -> tuple:
        cell = cell or f"results/{recipe}/own/bottle/{split}/k{k}/{method}/seed0"
        files = ("--index", "index.json", "--split", "split.json", "--features", "features", "--root", self.data)
        return ("cell", cell, "--recipe", f"config/recipes/{recipe}.yaml", *files, "--device", "cpu")

    def make_cache(self) -> None:
        """A stand-in for the feature cache, for commands that fail before they use it."""
        images = json.loads((self.folder / "index.json").read_text())["images"]
        folder = self.folder / "features"
        folder.mkdir()
        for level in LEVELS:
            np.save(folder / f"level{level}.npy", np.zeros((len(images), (32 // 2 ** (level + 1)) ** 2, 2), dtype=np.float32))
        np.save(folder / "masks.npy", np.zeros((len(images), 32, 32), dtype=bool))
        np.save(folder / "thumbnails.npy", np.zeros((len(images), 4, 4, 3), dtype=np.uint8))
        record = {
            "image_size": 32,
            "paths": [image["path"] for image in images],
            "seconds": 0,
            "weights_sha256": "",
            "sha256": sha256_of(folder),
        }
        (folder / "features.json").write_text(json.dumps(record))


@pytest.fixture
def here(tmp_path, capsys, monkeypatch) -> Here:
    return Here(tmp_path, capsys, monkeypatch)


def test_a_process_ends_with_one_line_and_status_1(here):
    truncate(here.category / "test/cut/002.png")
    command = [sys.executable, "-m", "bgad", *map(str, here.index())]
    run = subprocess.run(command, cwd=here.folder, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"error: {here.category / 'test/cut/002.png'}: ")
    assert run.stderr.count("\n") == 1
    assert not (here.folder / "index.json").exists()


def test_correct_input_succeeds_and_a_failure_later_leaves_its_file(here):
    here.succeeds(*here.index())
    here.succeeds(*here.split())
    assert json.loads((here.folder / "split.json").read_text())["category"] == "bottle"
    truncate(here.category / "train/good/001.png")
    here.fails(DataError, "train/good/001.png", *here.index())


@pytest.mark.parametrize(
    "name", ["train/good/001.png", "test/good/002.png", "test/hole/000.png", "ground_truth/hole/003_mask.png"]
)
def test_a_truncated_image_or_mask(here, name):
    truncate(here.category / name)
    here.fails(DataError, f"{here.category / name}: ", *here.index())


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda mask: write_mask(mask, height=10), r"cut/004_mask\.png: .*16x10.*test/cut/004\.png.*16x12"),
        (lambda mask: write_mask(mask, value=0), r"cut/004_mask\.png: .*empty"),
        (lambda mask: mask.unlink(), r"test/cut/004\.png: .*004_mask\.png.*missing"),
    ],
)
def test_a_wrong_mask(here, damage, named):
    here.datasets["own"]["strict"] = True
    damage(mask_of(here.category, "cut", 4))
    here.fails(DataError, named, *here.index())


def test_a_wrong_path(here):
    nowhere = here.folder / "nowhere"
    here.fails(DataError, rf"{nowhere}/bottle/train/good: .*datasets\.own\.path", *here.index(root=nowhere))
    here.fails(DataError, rf"{here.data}/botle/train/good: .*datasets\.own\.path", *here.index(category="botle"))
    here.fails(ConfigError, "data set mine.*datasets.*own", *here.index(dataset="mine"))

    block = {"recipe": "demo", "dataset": "own", "splits": ["seen"], "k": [1], "methods": ["bgad"], "seeds": [0]}
    suite = {"title": "t", "question": "q", "grid": [block]}
    (here.folder / "config/suites/mine.yaml").write_text(yaml.safe_dump(suite))
    values = {"own": {"path": str(nowhere)}}
    here.fails(ConfigError, rf"datasets\.own\.path .*{nowhere}", "cells", "mine", "--datasets", json.dumps(values))
    here.succeeds("cells", "mine", "--datasets", json.dumps(here.datasets))


def test_a_folder_that_cannot_be_written(here):
    here.fails(FileError, "config/config.yaml/index.json: ", *here.index(output="config/config.yaml/index.json"))


def test_a_missing_or_damaged_index(here):
    here.fails(FileError, "index.json: ", *here.split())
    for text in ('{"dataset": "own"', '{"dataset": "own"}'):
        (here.folder / "index.json").write_text(text)
        here.fails(FileError, "index.json: ", *here.split())


def test_a_split_that_the_category_does_not_have(here):
    here.succeeds(*here.index())
    here.fails(ConfigError, "own/bottle: .*hard-dent.*cut, hole", *here.split(split="hard-dent"))


def test_a_category_with_fewer_anomalies_than_the_pool(here):
    for kind in ("cut", "hole"):
        for path in sorted((here.category / "test" / kind).iterdir())[3:]:
            path.unlink()
    here.succeeds(*here.index())
    here.fails(DataError, r"own/bottle: .* 6.*datasets\.own\.pool", *here.split())


def test_a_category_with_fewer_anomalies_than_k(here):
    here.succeeds(*here.index())
    here.succeeds(*here.split(split="hard-cut"))
    here.make_cache()
    here.fails(DataError, "own/bottle: k 8 .* 7 images of type cut", *here.train(k=8, split="hard-cut"))
    here.succeeds(*here.split(output="split.json"))
    here.fails(DataError, "own/bottle: k 13 ", *here.train(k=13))


def test_a_category_without_masks_cannot_have_known_anomalies(here):
    shutil.rmtree(here.category / "ground_truth")
    here.succeeds(*here.index())
    here.succeeds(*here.split())
    here.make_cache()
    here.fails(DataError, "own/bottle.*ground_truth.*k 0", *here.train(k=1))


def test_a_wrong_key_in_a_recipe(here):
    recipe = here.folder / "config/recipes/demo.yaml"
    recipe.write_text(recipe.read_text().replace("beta:", "bata:"))
    here.fails(ConfigError, r"config/recipes/demo\.yaml: .*loss\.b[ae]ta", *here.train())
    here.fails(ConfigError, r"config/recipes/dema\.yaml: ", *here.train(recipe="dema"))
    here.fails(ConfigError, "results/demo: ", *here.train(cell="results/demo"))


def test_a_wrong_key_in_a_suite_or_the_configuration(here):
    suite = here.folder / "config/suites/demo.yaml"
    suite.write_text(suite.read_text().replace("seeds:", "seads:", 1))
    here.fails(ConfigError, r"config/suites/demo\.yaml: .*grid\.0\.sea?e?ds", "cells", "demo")
    here.fails(ConfigError, r"config/suites/dema\.yaml: ", "cells", "dema")

    config = here.folder / "config/config.yaml"
    config.write_text(config.read_text() + "sede: 1\n")
    here.fails(ConfigError, r"config/config\.yaml: .*sede", "cells", "paper")
    config.write_text("datasets: [\n")
    here.fails(ConfigError, r"config/config\.yaml: .*line 2", "cells", "paper")


@pytest.mark.parametrize(
    ("datasets", "named"),
    [
        ("{mvtec: {path: x}}", "--datasets: .*JSON"),
        ('{"mvtec": {"pth": "x"}}', r"--datasets: .*datasets\.mvtec\.pth"),
        ('["mvtec"]', "--datasets: datasets: .*dictionary"),
        ('{"own": {}}', "data set mvtec.*datasets.*own"),
    ],
)
def test_wrong_data_sets_on_the_command_line(here, datasets, named):
    here.fails(ConfigError, named, "cells", "paper", "--datasets", datasets)


def test_a_changed_split_file(here):
    here.succeeds(*here.index())
    here.succeeds(*here.split())
    path = here.folder / "split.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"test_anomalous": content["test_anomalous"] + content["pool"]}))
    here.make_cache()
    here.fails(FileError, r"split\.json: .*hash", *here.train())


def run(arguments: list, cwd: Path, redirect: str = "", **environment: str) -> subprocess.CompletedProcess:
    """A command through a shell, with ``redirect`` at its end."""
    line = f'"{sys.executable}" -m bgad "$@" {redirect}'
    command = ["sh", "-c", line, "sh", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "redirect", "status", "said"),
    [
        (["cells", "demo"], ">/dev/full", 1, "error: standard output: No space left on device.*\n"),
        (["cells", "demo"], ">&-", 0, ""),
        (["cells", "dema"], "2>&-", 1, ""),
        (["cells", "dema"], "2>/dev/full", 1, ""),
        (["predict", "x" * 300, "--cell", "c"], "", 1, "error: x+: File name too long.*\n"),
    ],
)
def test_a_failing_output_or_name_ends_in_a_sentence(here, arguments, redirect, status, said):
    found = run(arguments, here.folder, redirect)
    assert found.returncode == status and re.fullmatch(said, found.stderr), found.stderr
    assert found.stdout == ""


def test_a_terminal_that_knows_only_ascii_shows_escapes(here):
    suite = here.folder / "config/suites/mine.yaml"
    block = {"recipe": "demo", "dataset": "own", "splits": ["seen"], "k": [0], "methods": ["nf"], "seeds": [0]}
    suite.write_text(yaml.safe_dump({"title": "t", "question": "q", "grid": [block]}))
    here.category.rename(here.data / "é")
    found = run(["cells", "mine", "--datasets", json.dumps(here.datasets)], here.folder, PYTHONIOENCODING="ascii")
    assert (found.returncode, found.stdout, found.stderr) == (0, "results/demo/own/\\xe9/seen/k0/nf/seed0\n", "")


def test_a_folder_without_permission_is_named(here, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["bgad", "train", str(here.category)])
        cli.main()
    assert end.value.code == 1
    assert here.capsys.readouterr().err.startswith(f"error: {here.category}: Permission denied")


@pytest.mark.parametrize("command", ["cells demo", "doctor", "table demo --output t.md --plots p", "view reports/demo"])
def test_a_command_outside_the_project_says_where_to_start_it(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bgad", *command.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1 and type(end.value.__context__) is ConfigError
    assert str(ROOT) in capsys.readouterr().err
