"""Where a cell's metrics came from: what is recorded, what is the same today, and how to make the cell again."""

import json
import re
import shutil
import sys

import pytest
from conftest import ROOT
from synthetic import cell, metrics, write, write_cell

from bgad import cli
from bgad.config import paths
from bgad.config.provenance import method_sha256
from bgad.config.settings import load_recipe
from bgad.data.splits import Split
from bgad.errors import ConfigError, FileError
from bgad.report.explain import as_text, explain, explain_image

CELL = cell("bottle", k=2)
TESTED = {"test/good/000.png": 1.0, "test/cut/001.png": 3.0, "test/cut/002.png": 2.0, "test/hole/000.png": 2.0}
GALLERY = {"count": 4, "columns": 10, "tile": 96, "has_masks": True, "score_of_black": 0, "score_of_white": 3, "threshold": 2.0}
SPLIT = Split(
    *("mvtec", "bottle", "seen", 0),
    train_normal=("train/good/000.png",),
    pool=("test/cut/003.png", "test/hole/001.png", "test/hole/002.png"),
    further=(),
    held_out=(),
    test_normal=("test/good/000.png",),
    test_anomalous=("test/cut/001.png", "test/cut/002.png", "test/hole/000.png"),
    excluded=(("test/cut/009.png", "byte-identical to test/cut/001.png"),),
)


class Here:
    """A project with a finished cell, all of whose origins are those of today."""

    def __init__(self, root):
        self.root, self.folder = root, root / CELL.folder
        shutil.copytree(ROOT / "config", root / "config")
        SPLIT.save(root / "resources/splits/own/mvtec/bottle/seen/seed0.json")
        features = root / "resources/features/tf_efficientnet_lite0/256/mvtec/bottle/features.json"
        features.parent.mkdir(parents=True)
        features.write_text(json.dumps({"weights_sha256": "d" * 64, "sha256": "e" * 64}))
        for name in paths.CELL_FILES:
            write(root, CELL, name, "")
        rows = [f"{path},{path.split('/')[1]},{int('good' not in path)},{score}" for path, score in TESTED.items()]
        write(root, CELL, "scores.csv", "\n".join(["path,type,anomalous,score", *rows]))
        write(root, CELL, "gallery/gallery.json", json.dumps(GALLERY))
        write(root, CELL, "train.log", "epoch 1\n")
        self.write()

    def write(self, **changed):
        hashes = {"split": SPLIT.sha256, "source": method_sha256("bgad"), "weights": "d" * 64}
        hashes["recipe"] = load_recipe(self.root / "config/recipes/cpu.yaml").sha256
        values = {f"{name}_sha256": value for name, value in hashes.items()}
        write_cell(self.root, CELL, metrics((91.5, 93.25)), **values | changed)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Here(tmp_path_factory.mktemp("explain") / "the project")


@pytest.fixture
def here(made):
    """The same for each test, which leaves it as it was."""
    kept = made.root.with_name("kept")
    shutil.copytree(made.root, kept)
    yield made
    shutil.rmtree(made.root)
    kept.rename(made.root)


def text(here) -> dict[str, str]:
    """The lines of the text by their first two words."""
    lines = as_text(explain(here.folder), None).splitlines()
    return {re.split(r"\s{2,}", line)[0]: line for line in lines if line and not line.startswith(" ")}


def test_a_cell_whose_origins_are_those_of_today(here):
    found = explain(here.folder)
    assert {found[name]["today"] for name in ("split", "recipe", "features", "code", "weights")} == {"unchanged"}
    assert found["split"]["file"] == "resources/splits/own/mvtec/bottle/seen/seed0.json"
    assert found["split"]["known"] == ["test/cut/003.png", "test/hole/001.png"]
    assert (found["missing"], found["logs"]) == ([], ["train.log"])
    assert found["again"] == ["snakemake --cores all -f results/cpu/mvtec/bottle/seen/k2/bgad/seed0/metrics.json"]
    shown = text(here)
    assert shown["image AUROC"].split()[-2:] == ["91.50", "93.25"]
    assert "200 normal, 2 known anomalous" in shown["trained on"]
    assert "20 normal, 50 anomalous" in shown["tested on"]
    assert "device cpu" in shown["environment"]
    assert "train_s 1.5" in shown["took"]
    assert shown["commit"].endswith("abc1234")


@pytest.mark.parametrize("name", ["split", "code", "recipe", "features", "weights"])
def test_what_changed_since_is_said(here, name):
    here.write(**{f"{name.replace('code', 'source')}_sha256": "0" * 64})
    found = explain(here.folder)
    assert [of for of in ("split", "code", "recipe", "features", "weights") if found[of]["today"] == "changed"] == [name]
    assert found[name]["sha256"] == "0" * 64
    # Code and recipes are in the repository, so that the commit brings them back.
    back = ["git switch --detach abc1234"] if name in ("code", "recipe") else []
    assert found["again"][:-1] == back
    assert "SHA-256 000000000000..., changed" in as_text(found, None)
    assert (found["split"]["known"] is None) == (name == "split")


def test_a_detector_s_code_is_its_own(here):
    of = cell("bottle", k=0, method="patchcore")
    write_cell(here.root, of, metrics((91.5, 91.5)), source_sha256=method_sha256("patchcore"))
    assert explain(here.root / of.folder)["code"]["today"] == "unchanged"
    write_cell(here.root, of, metrics((91.5, 91.5)), source_sha256=method_sha256("padim"))
    assert explain(here.root / of.folder)["code"]["today"] == "changed"


def test_what_is_gone_is_said(here):
    (here.root / "config/recipes/cpu.yaml").unlink()
    (here.folder / "model.pt").unlink()
    found = explain(here.folder)
    assert {found[name]["today"] for name in ("split", "recipe", "weights")} == {"missing today"}
    assert found["missing"] == ["model.pt"]
    assert text(here)["files"].endswith("MISSING model.pt")


def test_changes_next_to_the_commit_and_a_data_set_that_the_configuration_lacks_are_said(here):
    environment = {"device": "cpu", "git_commit": "abc1234+changes"}
    here.write(source_sha256="0" * 64, environment=environment)
    config = here.root / "config/config.yaml"
    config.write_text(config.read_text().replace("  mvtec: {}", "  other: {path: /data/other}"))
    switch, command = explain(here.folder)["again"]
    assert switch.startswith("git switch --detach abc1234 ") and "never committed" in switch
    assert command.endswith("metrics.json --config 'datasets={mvtec: {path: FOLDER, pool: 3}}'")


def test_a_category_with_a_space_in_its_name_is_quoted(here):
    of = cell("small bolt", k=2)
    with pytest.raises(FileError, match=r"--cores all 'results/cpu/mvtec/small bolt/seen/k2/bgad/seed0/metrics[.]json'"):
        explain(here.root / of.folder)


@pytest.mark.parametrize(
    ("log", "status"), [(None, "not run"), ("epoch 1\n", "interrupted"), ("error: no room.\n", "failed: no room")]
)
def test_a_cell_that_is_not_finished_comes_with_the_command_that_makes_it(here, log, status):
    other = cell("bottle", k=2, seed=1)
    if log:
        write(here.root, other, "train.log", log)
    with pytest.raises(FileError) as error:
        explain(here.root / other.folder)
    assert f"seed1: {status}; make it with cd " in str(error.value)  # one is not in the project's folder
    assert f"snakemake --cores all {other.folder}/metrics.json" in str(error.value)


def test_an_image_s_score_rank_and_verdict(here):
    found = explain_image(here.folder, "/data/mvtec/bottle/test/hole/000.png")
    assert (found.path, found.score, found.rank, found.of) == ("test/hole/000.png", 2.0, 2, 4)  # one scores higher
    assert (found.anomalous, found.called_anomalous) == (True, True)  # at the threshold
    assert explain_image(here.folder, "test/good/000.png").called_anomalous is False
    assert as_text(explain(here.folder), found).endswith(
        "(hole): score 2.0000, rank 2 of 4, called anomalous at the threshold 2.0000"
    )
    (here.folder / "gallery/gallery.json").unlink()
    assert explain_image(here.folder, "test/good/000.png").called_anomalous is None


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("test/cut/003.png", "it is one of the cell's known anomalies"),
        ("test/hole/002.png", "it is in the pool of known anomalies"),
        ("train/good/000.png", "the cell was trained on it"),
        ("test/cut/009.png", "it was left out everywhere (byte-identical to test/cut/001.png)"),
        ("test/cut/999.png", "the cell did not test it"),
        ("/data/mvtec/cable/test/cut/001.png", "the cell did not test it"),  # another category's, of the same path
    ],
)
def test_why_an_image_was_not_tested(here, image, why):
    with pytest.raises(ConfigError, match=re.escape(f"{image}: {why}")):
        explain_image(here.folder, image)


def test_the_command(here, capsys, monkeypatch):
    monkeypatch.chdir(here.root)
    arguments = [CELL.folder.as_posix(), "--image", "test/cut/001.png", "--json"]
    monkeypatch.setattr(sys, "argv", ["bgad", "explain", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    values = json.loads(capsys.readouterr().out)
    assert values["image"]["rank"] == 1
    assert values["metrics"] == json.loads((here.folder / "metrics.json").read_text())
