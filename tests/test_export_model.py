"""A cell's model as ONNX: it scores as the cell did, without this package, or there is no file."""

import csv
import json
import logging
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT
from tiny import CELL, CPU, TinyProject, make_project

from bgad.data.images import resized_image
from bgad.errors import ConfigError, DataError, FileError, TrainingError
from bgad.io import read_json
from bgad.methods.predict import Model, load_model, predict
from bgad.report.export import onnx
from bgad.report.export.onnx import ABOUT, export_model

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("bgad", "torch", "timm", "FrEIA"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> TinyProject:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def exported(project):
    path = project.folder / "part.onnx"
    logging.disable()  # pytest would collect thousands of the exporter's records
    assert project.bgad("export", "model", CELL.folder, "--out", path) == 0
    logging.disable(logging.NOTSET)
    return path


@pytest.fixture
def restored(project):
    """Restores the cell's scores.csv and model.pt afterwards."""
    kept = {name: (project.cell / name).read_bytes() for name in ("scores.csv", "model.pt")}
    yield
    for name, content in kept.items():
        (project.cell / name).write_bytes(content)


@pytest.fixture
def quick(monkeypatch):
    """The exporter takes seconds, so other tests write a stub that scores as ``bgad predict`` does."""
    monkeypatch.setattr(onnx, "_serialized", lambda model, about: b"onnx")
    monkeypatch.setattr(onnx, "_scores_of_file", lambda path, images, model: [model.predict(one).score for one in images])


def recorded(project) -> dict[str, float]:
    with (project.cell / "scores.csv").open() as file:
        return {row["path"]: float(row["score"]) for row in csv.DictReader(file)}


def export(project, folder):
    return export_model(project.cell, project.folder / "data", folder / "part.onnx")


def test_every_test_image_has_the_scores_and_map_of_predict(project, exported):
    session = onnxruntime.InferenceSession(exported)
    paths = [project.images / path for path in recorded(project)]
    assert len(paths) == 10
    pixels = np.stack([resized_image(path, 32) for path in paths]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    found = predict(paths, project.cell, CPU)
    parts = [session.run(None, {"images": part}) for part in np.split(pixels, [1, 3])]  # any number at once
    maps, scores = (np.concatenate(of) for of in zip(*parts, strict=True))
    assert maps.shape == (10, 32, 32)
    np.testing.assert_allclose(maps, [one.anomaly_map for one in found], atol=1e-4, rtol=0)
    np.testing.assert_allclose(scores, [one.score for one in found], atol=1e-4, rtol=0)
    np.testing.assert_allclose(scores, [*recorded(project).values()], atol=1e-4, rtol=0)
    assert np.ptp(scores) > 1e-2, "equal scores would agree with anything"


def test_the_file_describes_itself(project, exported):
    session = onnxruntime.InferenceSession(exported)
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(float)", [3, 32, 32])
    assert [output.name for output in session.get_outputs()] == ["anomaly_maps", "scores"]
    about, metrics = json.loads(session.get_modelmeta().custom_metadata_map[ABOUT]), read_json(project.cell / "metrics.json")
    assert about["cell"] == metrics["cell"]
    assert about["image_size"] == 32
    assert "RGB in 0..1" in about["input"]
    assert about["threshold"] == load_model(project.cell, CPU).threshold
    for name in ("recipe_sha256", "source_sha256", "split_sha256", "weights_sha256"):
        assert about[name] == metrics[name]
    assert about["git_commit"] == metrics["environment"]["git_commit"]


def test_the_file_names_no_folder_of_this_machine(project, exported):
    places = {str(project.folder), str(ROOT), sys.prefix, torch.__path__[0]}
    content = exported.read_bytes()
    assert not [place for place in places if place.encode() in content]


def test_the_code_of_the_guide_runs_it_without_this_package(project, exported, tmp_path):
    page = (ROOT / "docs/one-cell.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    path, score = next(reversed(recorded(project).items()))
    (tmp_path / "part.png").write_bytes((project.images / path).read_bytes())
    (tmp_path / "brick.onnx").write_bytes(exported.read_bytes())
    code = f"{BLOCKED}\n{lines}\nprint(repr(scores.item()), anomaly_maps.shape == (1, 32, 32))"
    run = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    *said, found, shape = run.stdout.split()
    assert float(found) == pytest.approx(score, abs=1e-4)
    assert shape == "True"
    threshold = torch.load(project.cell / "model.pt", weights_only=True)["threshold"]
    assert said[-1] == ("anomalous" if score >= threshold else "normal")


def test_the_command_prints_the_differences(project, quick, capsys):
    assert project.bgad("export", "model", CELL.folder, "--out", project.folder / "again.onnx") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{project.folder / 'again.onnx'}: on 8 test images")
    differences = [float(number) for number in re.findall(r"\d\.\de-?\+?\d+", said)]
    assert len(differences) == 2 and max(differences) <= 1e-4


def test_scores_that_differ_from_the_cell_s_leave_no_file(project, quick, restored, tmp_path):
    path = project.cell / "scores.csv"
    lines = path.read_text().splitlines()
    name, *_, score = lines[-1].split(",")
    path.write_text("\n".join([*lines[:-1], f"{name},hole,1,{float(score) + 2e-4}"]) + "\n")
    with pytest.raises(TrainingError, match=r"part\.onnx: not written: .* 0\.0002 .*scores\.csv"):
        export(project, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [2e-4, float("nan")])
def test_a_file_that_scores_differently_from_predict_is_refused(project, quick, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(onnx, "_scores_of_file", lambda path, images, model: [model.predict(p).score + wrong for p in images])
    with pytest.raises(TrainingError, match=r"part\.onnx: not written: .*bgad predict"):
        export(project, tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_files_and_other_methods_are_named(project, quick, restored, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=tmp_path.name):
        export_model(tmp_path, project.folder / "data", tmp_path / "part.onnx")
    with pytest.raises(DataError, match=r"part: .*datasets\.own\.path"):
        export_model(project.cell, tmp_path, tmp_path / "part.onnx")
    (project.cell / "scores.csv").write_text("path,score\nx,not a number\n")
    with pytest.raises(FileError, match=r"scores\.csv"):
        export(project, tmp_path)
    (project.cell / "model.pt").unlink()
    with pytest.raises(FileError, match=r"model\.pt"):
        export(project, tmp_path)
    model = Model(*[None] * 8)  # of a method without flows, whose scale is None
    monkeypatch.setattr(onnx, "load_model", lambda *_: model)
    with pytest.raises(ConfigError, match=f"{project.cell}: .*flows"):
        export(project, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_the_extra_the_command_names_it(project, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "NEEDS", ("no_such_package",))
    with pytest.raises(ConfigError, match=r"no_such_package.*\[export\]"):
        export(project, tmp_path)
