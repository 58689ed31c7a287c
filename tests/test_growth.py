"""benchmarks/growth.py: what it reports for processes of known memory and for a small cell."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from bgad.features.cache import load

sys.path.insert(0, str(ROOT / "benchmarks"))
from growth import CHANNELS, CellSize, copy_workflow, draw, index_of, measured, write_features

MB = 2**20
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="benchmarks/growth.py reads Linux's /proc")


def python(code: str, folder: Path) -> dict[str, float]:
    return measured([sys.executable, "-c", code], folder)


def test_anonymous_memory_counts_in_both_and_mapped_files_in_resident_only(tmp_path):
    (tmp_path / "file").write_bytes(bytes(64 * MB))
    wait = "; import time; time.sleep(0.2)"
    nothing = python("pass" + wait, tmp_path)
    own = python(f"x = bytearray({64 * MB}); x[::4096] = bytes(len(x[::4096]))" + wait, tmp_path)
    mapping = "import mmap; f = open('file', 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); s = m[::4096]"
    mapped = python(mapping + wait, tmp_path)
    assert own["anonymous_mb"] - nothing["anonymous_mb"] == pytest.approx(64, abs=4)
    assert own["resident_mb"] - nothing["resident_mb"] == pytest.approx(64, abs=4)
    assert mapped["anonymous_mb"] - nothing["anonymous_mb"] == pytest.approx(0, abs=4)
    assert mapped["resident_mb"] - nothing["resident_mb"] == pytest.approx(64, abs=4)


def test_the_measuring_process_s_memory_does_not_count(tmp_path):
    large = bytearray(256 * MB)
    large[::4096] = bytes(len(large[::4096]))
    assert python("import time; time.sleep(0.1)", tmp_path)["resident_mb"] < 100


def test_a_command_s_last_line_is_returned_and_a_failure_ends_the_run(tmp_path):
    assert python("print('a line'); print('{\"train_s\": 1.5}')", tmp_path)["train_s"] == 1.5
    with pytest.raises(SystemExit, match="no such thing"):
        python("raise ValueError('no such thing')", tmp_path)


def test_a_cache_has_the_backbone_s_shapes_and_the_reported_size(tmp_path):
    size = CellSize(images=5, image_size=64, k=2)
    cache_mb = write_features(size, tmp_path)
    features, pool = load(tmp_path / "features"), load(tmp_path / "pool")
    images = 5 + 20 + 53 + 10  # training images, normal and anomalous test images, and the pool
    assert [tuple(level.shape) for level in features.levels] == [(images, 256, 24), (images, 64, 40), (images, 16, 112)]
    assert len(pool.paths) == 2 * 10 and len(set(pool.paths)) == 2
    assert features.masks.any((1, 2)).tolist() == [image.anomalous for image in index_of(size).images]
    values = sum((64 // stride) ** 2 * channels for stride, channels in zip((4, 8, 16), CHANNELS, strict=True))
    assert cache_mb == pytest.approx((images + 20) * values * 4 / MB, rel=0.01)  # the files also have headers
    # Every image has features, including the last ones, whose number is not a multiple of eight.
    assert all((np.abs(level.numpy()).sum((1, 2)) > 0).all() for level in features.levels)


def test_a_cell_is_measured_in_a_separate_process(tmp_path):
    size = CellSize(images=24, image_size=64, k=1)
    cache_mb = write_features(size, tmp_path)
    script = ROOT / "benchmarks" / "growth.py"
    run = measured([sys.executable, script, "--cell", 24, 64, 1, tmp_path], ROOT)
    metrics = json.loads((tmp_path / "cell" / "metrics.json").read_text())
    assert metrics["counts"] == {"train_normal": 24, "train_anomalous": 1, "test_normal": 20, "test_anomalous": 53}
    assert run["train_s"] == metrics["timing"]["train_s"]
    assert run["train_s"] + run["evaluate_s"] < metrics["timing"]["total_s"] < run["seconds"]
    assert run["resident_mb"] > run["anonymous_mb"] > 0
    assert run["resident_mb"] - run["anonymous_mb"] > cache_mb * 0.9  # all its pages were read, and they belong to the file


def test_twice_the_seeds_are_twice_the_cells(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    once, tables = copy_workflow(("demo",), 1, tmp_path / "once")
    twice, _ = copy_workflow(("demo",), 2, tmp_path / "twice")
    assert (once["cells"], twice["cells"]) == (28, 56)  # 4 categories x 6 settings, plus 2 x 2 hard ones
    assert tables == ["reports/demo/table.md"]
    assert (tmp_path / "twice" / "Snakefile").is_file()


def test_the_plot_is_1200_pixels_wide(tmp_path):
    run = {"seconds": 3.0, "train_s": 1.0, "evaluate_s": 1.0, "resident_mb": 900.0, "anonymous_mb": 500.0}
    facts = {"cpu": "a processor", "recipe": "cpu"}
    for name, key in zip(
        ("normal training images", "side of an image (pixels)", "k (known anomalies)", "cells planned"),
        ("images", "image_size", "k", "cells"),
        strict=True,
    ):
        facts[name] = [{key: at, "cache_mb": 7.0, "runs": [run, run]} for at in (1, 2, 4)]
    draw(facts, tmp_path / "growth.png")
    header = (tmp_path / "growth.png").read_bytes()[:20]
    assert (header[1:4], int.from_bytes(header[16:20])) == (b"PNG", 1200)
