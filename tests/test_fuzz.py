"""Whatever is in a file from outside, its reader takes it or refuses it with our own error, and leaves nothing behind.

`make test` feeds each reader the same few hundred inputs on every machine; `make fuzz` feeds it 10,000 new ones (BGAD_FUZZ is
their number).
"""

import io
import json
import math
import os
import resource
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import timm
import torch
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import edited, edited_values, jsons, npys, pngs, rezipped, tars, yamls, zips
from pages import cell, write_whole
from PIL import Image
from pydantic import TypeAdapter

from bgad.config import paths
from bgad.config.names import LONGEST, check_names, from_path, in_path
from bgad.config.settings import Config, Recipe, load_recipe, load_suite, read_yaml, validated
from bgad.data.download.unpack import unpack
from bgad.data.images import read_image, read_mask
from bgad.data.layouts import ImageRecord, Index
from bgad.data.splits import Split, draw
from bgad.errors import BgadError
from bgad.features import cache as features
from bgad.features.backbone import _loaded
from bgad.io import write_json
from bgad.memory import is_out_of_memory
from bgad.methods import bgad
from bgad.methods.predict import read_model
from bgad.model.flow import ConditionalFlow
from bgad.randomness import frozen_generator, torch_generator
from bgad.report.collect import DONE, METRICS, collect, read_gallery, read_likelihoods, scores_of
from bgad.report.live.status import status_of
from bgad.training.checkpoint import Checkpoint

MANY = int(os.environ.get("BGAD_FUZZ", 0))
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # about odd metadata
FUZZ = settings(
    max_examples=MANY or 300,
    derandomize=not MANY,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
MEMORY, FILE = 3 << 30, 64 << 20  # bytes that a test may take beyond what it begins with, and that a file may have


@pytest.fixture(autouse=True)
def bounded(tmp_path, monkeypatch):
    """Limits memory and file sizes, so that no bomb takes the machine down; a program in an input would leave a canary."""
    monkeypatch.chdir(tmp_path)
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)}
    space = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (space, before[resource.RLIMIT_AS][1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, before[resource.RLIMIT_FSIZE][1]))
    yield
    for kind, limit in before.items():
        resource.setrlimit(kind, limit)
    assert not [path for path in tmp_path.rglob("*") if "canary" in path.name]


def files(folder: Path) -> set[str]:
    return {f"{place}/{name}" for place, _, names in os.walk(folder) for name in names}


def read(reader: Callable, path: Path, content: bytes):
    """What ``reader`` returns for a file with that content; None if it refuses it in one sentence. Nothing else stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    before = files(path.parent)
    try:
        return reader(path)
    except BgadError as error:
        assert str(error).strip() and "\n" not in str(error)
        assert not any(is_out_of_memory(cause) for cause in causes_of(error)), "it took the memory before it was refused"
        return None
    finally:
        assert files(path.parent) == before


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__


def test_whole_files_are_taken(whole, cache, tmp_path):
    """Otherwise the inputs below, which are edits of these, would all be refused for the same reason."""
    for name, reader in (("index.json", Index.load), ("split.json", Split.load), ("gallery.json", read_gallery)):
        assert read(reader, Path(name), whole(name))
    assert read(read_likelihoods, Path("likelihoods.json"), whole("likelihoods.json"))
    assert read(lambda path: scores_of(path.parent), Path("scores.csv").absolute(), whole("scores.csv"))
    assert features.load(cache).levels[0].shape == (2, 64, 3)
    assert read(loaded, Path("cell/model.pt").absolute(), model_file()) is True
    for content in WEIGHTS:
        assert read(weights, Path("weights.pt").absolute(), content)
    for source, reader in CONFIGURATION.items():
        assert read(reader, Path("file.yaml"), source.read_bytes())
    for content in IMAGES[:8]:
        assert read(read_image, Path("image.png"), content) is not None
    assert read(checkpoint, Path("checkpoint.pt").absolute(), checkpoint_file()) == {"epoch": 1}


# --- archives ------------------------------------------------------------------------------------------------


def unpacked(path: Path) -> None:
    """Unpacks next to ``path``, checks that everything stays there, and removes it."""
    inside = path.with_name("out")
    try:
        unpack(path, inside, max_files=100, max_bytes=10**7)
        for found in inside.rglob("*"):
            assert Path(os.path.realpath(found)).is_relative_to(inside)  # which, unlike resolve, takes a link to itself
            assert found.is_symlink() or found.is_file() or found.is_dir()
    finally:
        shutil.rmtree(inside, ignore_errors=True)


@FUZZ
@given(content=tars())
def test_tars(content):
    read(unpacked, Path("archives/x.tar.xz").absolute(), content)


@FUZZ
@given(content=zips())
def test_zips(content):
    read(unpacked, Path("archives/x.zip").absolute(), content)


# --- images --------------------------------------------------------------------------------------------------


def saved(ending: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, ending, **options)
    return file.getvalue()


def exif(body: bytes) -> bytes:
    return saved("JPEG", exif=b"Exif\0\0" + body)


IMAGES = [saved("JPEG"), saved("JPEG", "CMYK"), saved("BMP"), saved("BMP", "P"), saved("TIFF"), saved("TIFF", "1")]
IMAGES += [
    saved("TIFF", compression="tiff_lzw"),
    saved("TIFF", "RGBA", compression="tiff_adobe_deflate"),
    saved("GIF"),
    saved("WEBP"),
    *(
        cv2.imencode(ending, np.arange(360, dtype=np.uint16).reshape(10, 12, 3) * 99)[1].tobytes()
        for ending in (".png", ".tiff")
    ),
]
IMAGES += [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
ORIENTED = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"


@FUZZ
@given(content=pngs(saved("PNG")) | edited(st.sampled_from(IMAGES)) | edited(st.just(ORIENTED)).map(exif))
def test_images(content):
    path = Path("image.png")
    if (image := read(read_image, path, content)) is not None:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size
    if (mask := read(read_mask, path, content)) is not None:
        assert mask.dtype == bool and mask.ndim == 2 and mask.size


# --- configuration -------------------------------------------------------------------------------------------

DEMO = ROOT / "config/recipes/demo.yaml"
CONFIGURATION = {
    DEMO: load_recipe,
    ROOT / "config/suites/paper.yaml": load_suite,
    ROOT / "config/config.yaml": lambda path: validated(Config, read_yaml(path), path),
}


@FUZZ
@given(of=st.sampled_from(sorted(CONFIGURATION)).flatmap(lambda of: st.tuples(st.just(of), yamls(of.read_text()))))
def test_yaml(of):
    source, content = of
    found = read(CONFIGURATION[source], Path("file.yaml"), content)
    if isinstance(found, Recipe):
        assert json.loads(json.dumps(found.model_dump(), allow_nan=False)) and len(found.sha256) == 64


# --- files between steps -------------------------------------------------------------------------------------

RECORDS = [ImageRecord(f"train/good/{n}.png", "train", "good", None, f"{n:064}") for n in range(3)]
RECORDS += [ImageRecord(f"test/good/{n}.png", "test", "good", None, f"1{n:063}") for n in range(2)]
RECORDS += [ImageRecord(f"test/cut/{n}.png", "test", "cut", f"ground_truth/cut/{n}_mask.png", f"2{n:063}") for n in range(4)]
INDEX = Index("own", "part", False, True, tuple(RECORDS))


def stored(save: Callable[[Path], None], folder: Path) -> bytes:
    save(folder / "x")
    return (folder / "x").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[str], bytes]:
    """The bytes of a valid file of each kind, by name."""
    folder = tmp_path_factory.mktemp("whole")
    INDEX.save(folder / "index.json")
    draw(INDEX, "seen", 0, 2).save(folder / "split.json")
    write_whole(folder, cell())
    for path in (folder / cell().folder).rglob("*.*"):
        shutil.copy(path, folder / path.name)
    return lambda name: (folder / name).read_bytes()


@FUZZ
@given(data=st.data())
def test_indexes_and_splits(whole, data):
    index = data.draw(jsons(json.loads(whole("index.json"))))
    if (found := read(Index.load, Path("index.json"), index)) is not None:
        assert not [image.path for image in found.images if ".." in Path(image.path).parts or image.path.startswith("/")]
        read(lambda path: draw(found, "seen", 0, 2), Path("index.json"), index)
    values = json.loads(whole("split.json"))
    forged = edited_values(values).map(lambda of: json.dumps(rehashed(of)).encode())
    if (split := read(Split.load, Path("split.json"), data.draw(jsons(values) | forged))) is not None:
        assert not [path for path in split.train_normal + split.test_anomalous if ".." in Path(path).parts or path[:1] == "/"]


def rehashed(values):
    """A split's values with their own hash, as a forger would write it."""
    try:
        split = TypeAdapter(Split).validate_python({key: value for key, value in values.items() if key != "sha256"})
        return values | {"sha256": split.sha256}
    except (AttributeError, TypeError, ValueError):  # no split
        return values


@settings(FUZZ, max_examples=MANY or 100)  # pandas takes its time
@given(data=st.data())
def test_a_cell_s_metrics(whole, data):
    """Whatever is in the files of a cell, the reports have its finite metrics, or a reason."""
    folder = Path(cell().folder)
    metrics = data.draw(jsons(json.loads(whole("metrics.json"))) | st.just(whole("metrics.json")))
    folder.mkdir(parents=True, exist_ok=True)
    history = edited(st.just(whole("history.csv"))) | edited(
        st.just(b"epoch," + b",".join(m.encode() for m in METRICS) + b"\n1,inf,,,\n")
    )
    (folder / "history.csv").write_bytes(data.draw(history))
    collected = read(lambda _: collect([cell()]), folder / "metrics.json", metrics)
    if collected and collected.status[cell()] == DONE:
        assert collected.metrics["last"].dropna().between(0, 100).all()
        values = collected.history[["epoch", *METRICS]].astype(float)
        assert (values.isna() | np.isfinite(values)).all(axis=None)
        json.dumps(collected.by_type.to_dict("records"))


@FUZZ
@given(data=st.data())
def test_a_cell_s_galleries_and_logs(whole, data):
    folder = Path(cell().folder)
    for name, reader in (("gallery.json", read_gallery), ("likelihoods.json", read_likelihoods)):
        found = read(reader, folder / name, data.draw(jsons(json.loads(whole(name)))))
        json.dumps(found and found.model_dump(), allow_nan=False)
    if scores := read(
        lambda path: scores_of(path.parent), folder / "scores.csv", data.draw(edited(st.just(whole("scores.csv"))))
    ):
        assert all(math.isfinite(score.score) for score in scores)
    log = data.draw(edited(st.just(b"Traceback (most recent call last)\nValueError: x")))
    assert read(lambda path: status_of([cell()]), folder / "train.log", log)


@pytest.fixture
def cache(tmp_path) -> Path:
    folder = tmp_path / "features"
    folder.mkdir()
    for level, side in zip((1, 2, 3), (8, 4, 2), strict=True):
        np.save(folder / f"level{level}.npy", np.zeros((2, side**2, 3), np.float32))
    np.save(folder / "masks.npy", np.zeros((2, 32, 32), bool))
    np.save(folder / "thumbnails.npy", np.zeros((2, 4, 4, 3), np.uint8))
    record = {"image_size": 32, "paths": ["a", "b"], "seconds": 1.0, "weights_sha256": "", "sha256": features.sha256_of(folder)}
    write_json(folder / "features.json", record)
    return folder


@FUZZ
@given(data=st.data())
def test_feature_caches(cache, data):
    name = data.draw(st.sampled_from(["level1.npy", "masks.npy", "features.json"]))
    good = (cache / name).read_bytes()
    content = data.draw(jsons(json.loads(good)) if name == "features.json" else npys(good))
    try:
        found = read(lambda _: features.load(cache), cache / name, content)
    finally:
        (cache / name).write_bytes(good)
    assert found is None or [level.dtype for level in found.levels] == [torch.float32] * 3


# --- checkpoints ---------------------------------------------------------------------------------------------

CPU = torch.device("cpu")


def model_file(**changed) -> bytes:
    values = validated(Recipe, read_yaml(DEMO), DEMO).model_dump()
    values |= {"image_size": 32, "flow": {"blocks": 1, "position_channels": 4, "clamp": 1.9}}
    recipe = Recipe.model_validate(values)
    content = {
        "cell": vars(cell()),
        "recipe": values,
        "weights_sha256": "",
        "threshold": 0.5,
        "highest": 1.0,
        "model": [flow.state_dict() for flow in flows_of(recipe)],
        "scale": {"level_maxima": (0.0, 0.0, 0.0), "sum_maximum": 1.0},
    }
    return torch_file(content | changed)


def torch_file(content: dict, *, as_before_1_6: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not as_before_1_6)
    return file.getvalue()


def flows_of(recipe: Recipe) -> list[ConditionalFlow]:
    return bgad.build_flows(recipe, [2, 2, 2], [8, 4, 2], torch_generator("model"), frozen_generator("model"))


def loaded(path: Path) -> bool:
    """Whether the file is a complete model of flows."""
    content = read_model(path.parent, CPU)
    if content["scale"] is None:
        return False
    bgad.restore(content["model"], validated(Recipe, content["recipe"], path), (2, 2, 2), (8, 4, 2), CPU)
    return True


STATES = [[], [{}] * 3, [[]] * 3, [{"a": torch.zeros(1).expand(10**9)}] * 3, [{"a": torch.zeros(2).to_sparse()}] * 3]
STATES += [[{"a": torch.zeros(2, device="meta")}] * 3]
MODELS = [{}, {"threshold": "x"}, {"threshold": math.inf}, {"scale": None}, {"scale": 1}, {"recipe": {}}, {"cell": 1}]
MODELS += [{"cell": Path("x")}, {"more": [1] * 9}, *({key: state} for key in ("model", "flows") for state in STATES)]


@FUZZ
@given(content=st.sampled_from([model_file(**of) for of in MODELS]) | rezipped(model_file()))
def test_models(content):
    read(loaded, Path("cell/model.pt").absolute(), content)


def checkpoint(path: Path) -> dict | None:
    return Checkpoint(path.parent, "key", 0).load()


def checkpoint_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Checkpoint(Path(folder), "key", 0).save({"epoch": 1})
        return (Path(folder) / "checkpoint.pt").read_bytes()


@FUZZ
@given(content=st.deferred(lambda: rezipped(checkpoint_file())))  # as late as the number of threads is the tests'
def test_checkpoints(content):
    found = read(checkpoint, Path("cell/checkpoint.pt").absolute(), content)
    assert found is None or isinstance(found, dict)


def weights(path: Path):
    with pytest.MonkeyPatch.context() as patch:  # a slow part that does not read the file
        patch.setattr(timm, "create_model", lambda *_, **__: True)
        return _loaded("resnet18.a1_in1k", path)


STATE = {"state_dict": {f"{name}.weight": torch.ones(2, 3) for name in "ab"}, "epoch": 3}
WEIGHTS = [torch_file(STATE, as_before_1_6=old) for old in (False, True)]


@FUZZ
@given(content=rezipped(WEIGHTS[0]) | edited(st.just(WEIGHTS[1])), ending=st.sampled_from(["pt", "safetensors"]))
def test_weights(content, ending):
    read(weights, Path(f"weights.{ending}").absolute(), content)


# --- names ---------------------------------------------------------------------------------------------------

ODD = st.sampled_from(list("ab .-=+@/\\{}[]<>|*?\"'`$;&()#~!%^,\n\t\0é→\u202e\udcff")) | st.characters()


@FUZZ
@given(name=st.text(ODD, max_size=20))
def test_names(name):
    """An accepted name stays one folder, one word of a shell, and one job of Snakemake's on a cluster."""
    try:
        check_names([name], "a category", Path("data"))
    except BgadError as error:
        assert str(error).isprintable()
        return
    place, written = Path(paths.INDEX.format(dataset="own", category=name)), in_path(name)
    assert place.parent == Path("resources/index/own") and place.name == f"{written}.json"
    assert from_path(written) == name and len(written.encode()) <= LONGEST
    assert shlex.split(shlex.quote(name)) == [name]
    # As Snakemake sends a job away: in Python's quotes, its wildcards apart by commas.
    assert shlex.split(repr(f"index:dataset=own,category={written}")) == [f"index:dataset=own,category={written}"]
    assert not {*"{},$`\\%"} & {*written}
