"""What people meet when something is wrong: one sentence, exit status 1, and nothing half-written left behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from folders import make_category, mask_of, truncate, write_mask

from bgad import cli
from bgad.features import LEVELS

ROOT = Path(__file__).resolve().parent.parent


class Here:
    """A folder with a data set and a configuration, where commands are run as from a shell."""

    def __init__(self, folder: Path, capsys, monkeypatch):
        self.folder, self.capsys, self.monkeypatch = folder, capsys, monkeypatch
        self.data = folder / "data"
        self.category = make_category(self.data, types={"cut": 7, "hole": 6})
        self.datasets = {"own": {"path": str(self.data)}}
        shutil.copytree(ROOT / "config", folder / "config")
        monkeypatch.chdir(folder)

    def bgad(self, *arguments: object) -> tuple[int, str]:
        """The exit status of a command, and what it said on standard error."""
        self.monkeypatch.setattr(sys, "argv", ["bgad", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = self.capsys.readouterr()
        return end.value.code or 0, said.err

    def succeeds(self, *arguments: object) -> None:
        assert self.bgad(*arguments) == (0, "")

    def fails(self, *arguments: object) -> str:
        """The sentence with which a command fails, and that the folder is as it was."""
        before = self.files()
        status, said = self.bgad(*arguments)
        assert status == 1, said
        assert said.startswith("error: ")
        assert said.endswith(".\n")
        assert said.count("\n") == 1, "one line"
        assert self.files() == before
        return said.removeprefix("error: ").strip()

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file, hidden ones too, with its size and time."""
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
        """A stand-in for the feature cache, for what is refused before it is used."""
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
            "sha256": "-",
        }
        (folder / "features.json").write_text(json.dumps(record))


@pytest.fixture
def here(tmp_path, capsys, monkeypatch) -> Here:
    return Here(tmp_path, capsys, monkeypatch)


def test_a_real_process_ends_with_one_line_and_status_1(here):
    truncate(here.category / "test/cut/002.png")
    command = [sys.executable, "-m", "bgad", *map(str, here.index())]
    run = subprocess.run(command, cwd=here.folder, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith(f"error: {here.category / 'test/cut/002.png'}: not a complete image (")
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""
    assert not (here.folder / "index.json").exists()


def test_what_is_right_succeeds(here):
    here.succeeds(*here.index())
    here.succeeds(*here.split())
    assert json.loads((here.folder / "split.json").read_text())["category"] == "bottle"


@pytest.mark.parametrize(
    "of",
    [
        lambda category: category / "train/good/001.png",
        lambda category: category / "test/good/002.png",
        lambda category: category / "test/hole/000.png",
        lambda category: mask_of(category, "hole", 3),
    ],
)
def test_a_truncated_png(here, of):
    truncate(of(here.category))
    assert here.fails(*here.index()).startswith(f"{of(here.category)}: not a complete image (")


def test_an_image_and_a_mask_of_different_size(here):
    mask = mask_of(here.category, "cut", 4)
    write_mask(mask, height=10)
    said = here.fails(*here.index())
    assert said.startswith(f"{mask}: the mask is 16x10 pixels and its image {here.category / 'test/cut/004.png'} 16x12;")


def test_a_mask_that_is_empty(here):
    mask = mask_of(here.category, "cut", 4)
    write_mask(mask, value=0)
    assert here.fails(*here.index()).startswith(f"{mask}: the mask of ")


def test_a_mask_that_is_missing(here):
    mask_of(here.category, "cut", 4).unlink()
    assert here.fails(*here.index()).startswith(f"{here.category / 'test/cut/004.png'}: its mask 004_mask.png is missing")


def test_a_wrong_path(here):
    nowhere = here.folder / "nowhere"
    said = here.fails(*here.index(root=nowhere))
    assert said.startswith(f"{nowhere / 'bottle/train/good'}: no images found; check datasets.own.path")
    said = here.fails(*here.index(category="botle"))
    assert said.startswith(f"{here.data / 'botle/train/good'}: no images found; check datasets.own.path")
    assert "there is no data set mine; add it to datasets, or use one of own." in here.fails(*here.index(dataset="mine"))

    suite = {"title": "t", "question": "q", "grid": []}
    block = {"recipe": "demo", "dataset": "own", "splits": ["seen"], "k": [1], "methods": ["bgad"], "seeds": [0]}
    (here.folder / "config/suites/mine.yaml").write_text(yaml.safe_dump({**suite, "grid": [block]}))
    values = {"own": {"path": str(nowhere)}}
    said = here.fails("cells", "mine", "--datasets", json.dumps(values))
    assert said == f"config: datasets.own.path is {nowhere}, which is not a folder; correct the path."
    here.succeeds("cells", "mine", "--datasets", json.dumps(here.datasets))


def test_a_place_that_cannot_be_written_to(here):
    said = here.fails(*here.index(output="config/config.yaml/index.json"))
    assert said.startswith("config/config.yaml/index.json: cannot be written (")


def test_a_file_that_was_there_stays_when_a_step_fails(here):
    here.succeeds(*here.index())
    before = (here.folder / "index.json").read_text()
    truncate(here.category / "train/good/001.png")
    here.fails(*here.index())
    assert (here.folder / "index.json").read_text() == before


def test_a_missing_or_wrong_file_between_the_steps(here):
    assert here.fails(*here.split()).startswith("index.json: cannot be read (No such file or directory)")
    (here.folder / "index.json").write_text('{"dataset": "own"')
    assert here.fails(*here.split()).startswith("index.json: not valid JSON (")
    (here.folder / "index.json").write_text('{"dataset": "own"}')
    assert here.fails(*here.split()).startswith("index.json: not the index of a category")


def test_a_split_that_the_category_does_not_have(here):
    here.succeeds(*here.index())
    said = here.fails(*here.split(split="hard-dent"))
    assert said == "own/bottle: there is no split hard-dent; use seen or hard-<type> with one of cut, hole."


def test_a_category_with_fewer_anomalies_than_the_pool(here):
    for kind in ("cut", "hole"):
        for path in sorted((here.category / "test" / kind).iterdir())[3:]:
            path.unlink()
    here.succeeds(*here.index())
    said = here.fails(*here.split())
    assert said.startswith("own/bottle: split seen leaves no anomalous image to test on, since it takes all 6;")
    assert "datasets.own.pool" in said


def test_a_category_with_fewer_anomalies_than_k(here):
    here.succeeds(*here.index())
    here.succeeds(*here.split(split="hard-cut"))
    here.make_cache()
    said = here.fails(*here.train(k=8, split="hard-cut"))
    assert said == "own/bottle: k 8 is more than its 7 images of type cut; ask for a smaller k."
    here.succeeds(*here.split(output="split.json"))
    said = here.fails(*here.train(k=13))
    assert said == "own/bottle: k 13 leaves no anomalous image to test on; ask for a smaller k."


def test_a_category_without_masks_cannot_have_known_anomalies(here):
    shutil.rmtree(here.category / "ground_truth")
    here.succeeds(*here.index())
    here.succeeds(*here.split())
    here.make_cache()
    said = here.fails(*here.train(k=1))
    assert said.startswith("own/bottle has no masks")
    assert "ground_truth" in said
    assert "k 0" in said


def test_a_wrong_key_in_a_recipe(here):
    recipe = here.folder / "config/recipes/demo.yaml"
    recipe.write_text(recipe.read_text().replace("beta:", "bata:"))
    said = here.fails(*here.train())
    assert said in (
        "config/recipes/demo.yaml: unknown key loss.bata; config/README.md lists the keys.",
        "config/recipes/demo.yaml: key loss.beta is missing; config/README.md lists the keys.",
    )
    assert here.fails(*here.train(recipe="dema")).startswith("config/recipes/dema.yaml: cannot be read (No such file")
    assert "config/recipes/demo.yaml" not in here.fails(*here.train(cell="results/demo"))


def test_a_wrong_key_in_a_suite_or_the_configuration(here):
    suite = here.folder / "config/suites/demo.yaml"
    suite.write_text(suite.read_text().replace("seeds:", "seads:", 1))
    said = here.fails("cells", "demo")
    assert said.startswith("config/suites/demo.yaml: ")
    assert "grid.0.sea" in said or "grid.0.see" in said
    assert here.fails("cells", "dema").startswith("config/suites/dema.yaml: cannot be read (No such file")

    config = here.folder / "config/config.yaml"
    config.write_text(config.read_text() + "sede: 1\n")
    assert here.fails("cells", "paper") == "config/config.yaml: unknown key sede; config/README.md lists the keys."
    config.write_text("datasets: [\n")
    assert here.fails("cells", "paper").startswith("config/config.yaml: not valid YAML at line 2")


@pytest.mark.parametrize(
    ("datasets", "sentence"),
    [
        ("{mvtec: {path: x}}", "--datasets: not valid JSON ("),
        ('{"mvtec": {"pth": "x"}}', "--datasets: unknown key datasets.mvtec.pth;"),
        ('["mvtec"]', "--datasets: datasets: Input should be a valid dictionary"),
        ('{"own": {}}', "config: there is no data set mvtec; add it to datasets, or use one of own."),
    ],
)
def test_wrong_data_sets_on_the_command_line(here, datasets, sentence):
    assert here.fails("cells", "paper", "--datasets", datasets).startswith(sentence)


def test_a_changed_split_file(here):
    here.succeeds(*here.index())
    here.succeeds(*here.split())
    path = here.folder / "split.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"test_anomalous": content["test_anomalous"] + content["pool"]}))
    assert here.fails(*here.train()).startswith("split.json: its content does not match its hash")
