"""The Triton kernels without a card: what they compute, in Triton's interpreter, and that they compile for one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from interpreted import SHAPES, equals_freia

from bgad.model import flow as model
from bgad.model.gpu import chain

TESTS = Path(__file__).parent
CUDA = torch.device("cuda")


def run(*command, **environment):
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ["PYTHONPATH"]])
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
    )


def test_values_and_gradients_equal_those_of_freia():
    pytest.importorskip("triton")
    done = run(TESTS / "interpreted.py", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(SHAPES)


def test_the_kernels_compile_for_cards_and_fit_them(tmp_path):
    pytest.importorskip("triton")
    done = run(TESTS.parent / "benchmarks" / "kernels.py", 112, TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    kernels = ("forward", "scoring", "backward")
    assert [row[:3] for row in rows] == [[card, "112", kernel] for card in ("sm_80", "sm_90") for kernel in kernels]
    assert all(float(row[3]) <= 48 for row in rows)  # KB
    assert all(int(row[5]) < 500 for row in rows)  # bytes of registers that do not fit


def test_they_run_when_asked_for_and_installed(monkeypatch):
    monkeypatch.delenv("BGAD_PLAIN", raising=False)
    monkeypatch.delenv("BGAD_TRITON", raising=False)
    assert model.describe(CUDA) == "fused"
    monkeypatch.setenv("BGAD_TRITON", "1")
    monkeypatch.setattr(chain, "find_spec", lambda name: object())
    assert model.describe(CUDA) == "triton"
    assert not chain.switched_on(torch.device("cpu"))
    monkeypatch.setattr(chain, "find_spec", lambda name: None)  # Triton is not installed
    assert model.describe(CUDA) == "fused"
    monkeypatch.setattr(chain, "find_spec", lambda name: object())
    monkeypatch.setenv("BGAD_PLAIN", "1")
    assert model.describe(CUDA) == "plain"


def test_which_vectors_they_take(monkeypatch):
    monkeypatch.setattr(chain, "switched_on", lambda device: True)
    assert chain.available(torch.zeros(3, 128))
    assert not chain.available(torch.zeros(3, 129))  # b6's third level
    assert not chain.available(torch.zeros(3, 128, dtype=torch.float64))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_equal_those_of_freia_on_a_gpu(shape, monkeypatch):
    monkeypatch.setenv("BGAD_TRITON", "1")
    *of_flow, count = shape
    equals_freia(of_flow, count, CUDA)
