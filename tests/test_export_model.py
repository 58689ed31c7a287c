"""A cell's model as TorchScript: it scores as the cell did, without this package, or there is no file."""

import csv
import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT
from tiny import CELL, CPU, TinyProject, make_project

from bgad.data.images import resized_image
from bgad.errors import BgadError
from bgad.io import read_json
from bgad.methods.predict import predict
from bgad.model.scoring import image_scores
from bgad.report.export.torchscript import ABOUT, export_model

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("bgad", "timm", "FrEIA"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> TinyProject:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def exported(project):
    path = project.folder / "part.pt"
    assert project.bgad("export", "model", CELL.folder, "--out", path) == 0
    return path


@pytest.fixture
def run_again(project):
    """Puts scores.csv and model.pt of the cell back afterwards."""
    kept = {name: (project.cell / name).read_bytes() for name in ("scores.csv", "model.pt")}
    yield
    for name, content in kept.items():
        (project.cell / name).write_bytes(content)


def recorded(project) -> dict[str, float]:
    with (project.cell / "scores.csv").open() as file:
        return {row["path"]: float(row["score"]) for row in csv.DictReader(file)}


def load(path):
    about = {ABOUT: ""}
    return torch.jit.load(path, _extra_files=about), json.loads(about[ABOUT])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_test_image_scores_and_is_mapped_as_by_predict(project, exported):
    model, _ = load(exported)
    paths = [project.images / path for path in recorded(project)]
    assert len(paths) == 10
    pixels = torch.from_numpy(np.stack([resized_image(path, 32) for path in paths])).permute(0, 3, 1, 2) / 255
    found = predict(paths, project.cell, CPU)
    parts = [model(part) for part in pixels.split([1, 2, 7])]  # any number at once
    maps, scores = (torch.cat(of).numpy() for of in zip(*parts, strict=True))
    assert maps.shape == (10, 32, 32)
    np.testing.assert_allclose(maps, [one.anomaly_map for one in found], atol=1e-5)
    np.testing.assert_allclose(scores, [*recorded(project).values()], atol=1e-5)
    assert np.ptp(scores) > 1e-2, "scores that are all the same would agree with anything"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_file_says_what_it_is(project, exported):
    _, about = load(exported)
    metrics = read_json(project.cell / "metrics.json")
    assert about["cell"] == metrics["cell"]
    assert about["image_size"] == 32
    (found,) = predict([project.images / "test/good/000.png"], project.cell, CPU)
    assert about["threshold"] == found.threshold
    for name in ("recipe_sha256", "source_sha256", "split_sha256", "weights_sha256"):
        assert about[name] == metrics[name]
    assert about["git_commit"] == metrics["environment"]["git_commit"]


def test_the_command_says_how_far_the_scores_are_apart(project, capsys):
    assert project.bgad("export", "model", CELL.folder, "--out", project.folder / "again.pt") == 0
    said = capsys.readouterr().out
    found = re.fullmatch(r"(.*): on 8 test images its scores differ by at most (\S+) from .*, and by (\S+) from .*\n", said)
    assert found[1] == str(project.folder / "again.pt")
    assert 0 <= float(found[2]) <= 1e-4
    assert 0 <= float(found[3]) <= 1e-4


def test_the_file_names_no_folder_of_this_machine(project, exported):
    with zipfile.ZipFile(exported) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    places = {str(project.folder), str(ROOT), sys.prefix, torch.__path__[0]}
    assert not [name for name, content in contents.items() if any(place.encode() in content for place in places)]


def test_the_guide_s_lines_run_it_where_this_package_is_not(project, exported, tmp_path):
    page = (ROOT / "docs/one-cell.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert "bgad import" not in lines
    assert "import bgad" not in lines
    path, score = next(reversed(recorded(project).items()))
    (tmp_path / "part.png").write_bytes((project.images / path).read_bytes())
    (tmp_path / "brick.pt").write_bytes(exported.read_bytes())
    code = f"{BLOCKED}\n{lines}\nprint(repr(scores.item()), anomaly_maps.shape == (1, 32, 32), 'bgad' in sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    *said, found, shape, imported = run.stdout.split()
    assert float(found) == pytest.approx(score, abs=1e-4)
    assert (shape, imported) == ("True", "False")
    threshold = torch.load(project.cell / "model.pt", weights_only=True)["threshold"]
    assert said[-1] == ("anomalous" if score >= threshold else "normal")


def test_scores_that_are_not_the_cell_s_leave_no_file(project, run_again, tmp_path):
    path = project.cell / "scores.csv"
    lines = path.read_text().splitlines()
    name, *_, score = lines[-1].split(",")
    path.write_text("\n".join([*lines[:-1], f"{name},hole,1,{float(score) + 2e-4}"]) + "\n")
    with pytest.raises(BgadError, match=r"not written, since its scores differ by up to 0\.0002 from those of .*scores\.csv"):
        export_model(project.cell, project.folder / "data", tmp_path / "part.pt")
    assert not list(tmp_path.iterdir())


def test_a_file_that_scores_otherwise_than_predict_is_refused(project, tmp_path, monkeypatch):
    monkeypatch.setattr("bgad.report.export.torchscript.image_scores", lambda maps: image_scores(maps) + 0.001)
    with pytest.raises(BgadError, match=r"not written, since its scores differ by up to .* from those of `bgad predict`"):
        export_model(project.cell, project.folder / "data", tmp_path / "part.pt")
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named(project, run_again, tmp_path):
    with pytest.raises(BgadError, match="not the folder of a cell"):
        export_model(tmp_path, project.folder / "data", tmp_path / "part.pt")
    with pytest.raises(BgadError, match=r"part: not a folder, where the cell's test images should be; set datasets\.own\.path"):
        export_model(project.cell, tmp_path, tmp_path / "part.pt")
    scores = project.cell / "scores.csv"
    kept = scores.read_bytes()
    scores.write_text("path,score\nx,not a number\n")
    with pytest.raises(BgadError, match=r"scores\.csv: missing or damaged .* run its cell again"):
        export_model(project.cell, project.folder / "data", tmp_path / "part.pt")
    scores.write_bytes(kept)
    content = torch.load(project.cell / "model.pt", weights_only=True)
    of_a_detector = {key: value for key, value in content.items() if key != "flows"} | {"highest": 1.0}
    torch.save(of_a_detector, project.cell / "model.pt")
    with pytest.raises(BgadError, match=r"model\.pt: has no flows, as the models of bgad, bgad-wo and nf have"):
        export_model(project.cell, project.folder / "data", tmp_path / "part.pt")
    (project.cell / "model.pt").unlink()
    with pytest.raises(BgadError, match="there is no model; run the cell first"):
        export_model(project.cell, project.folder / "data", tmp_path / "part.pt")
    assert not list(tmp_path.iterdir())
