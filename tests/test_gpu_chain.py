"""The Triton kernels without a card: what they compute, in Triton's interpreter, and that they compile for one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bgad.model import flow as model
from bgad.model.gpu import chain

TESTS = Path(__file__).parent
CUDA = torch.device("cuda")


def run(*command, **environment):
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
    )


def test_values_and_gradients_equal_those_of_freia():
    pytest.importorskip("triton")
    run_ = run(TESTS / "interpreted.py", TRITON_INTERPRET="1")
    assert run_.returncode == 0, run_.stderr
    assert len(run_.stdout.splitlines()) == 5


def test_the_kernels_compile_for_cards_and_fit_them(tmp_path):
    pytest.importorskip("triton")
    run_ = run(TESTS.parent / "benchmarks" / "kernels.py", 24, TRITON_CACHE_DIR=str(tmp_path))
    assert run_.returncode == 0, run_.stderr
    rows = [line.split() for line in run_.stdout.splitlines()[1:]]
    assert [row[:3] for row in rows] == [[card, "24", name] for card in ("sm_80", "sm_90") for name in ("forward", "backward")]
    assert all(float(row[3]) < 99 for row in rows)  # KB: what an sm_86 has


def test_they_run_when_asked_for_and_installed(monkeypatch):
    monkeypatch.delenv("BGAD_PLAIN", raising=False)
    monkeypatch.delenv("BGAD_TRITON", raising=False)
    assert model.describe(CUDA) == "fused"
    monkeypatch.setattr(chain, "_kernels", lambda: object())
    assert model.describe(CUDA) == "fused"
    monkeypatch.setenv("BGAD_TRITON", "1")
    assert model.describe(CUDA) == "triton"
    assert not chain.switched_on(torch.device("cpu"))
    monkeypatch.setattr(chain, "_kernels", lambda: None)  # Triton is not installed
    assert model.describe(CUDA) == "fused"
    monkeypatch.setattr(chain, "_kernels", lambda: object())
    monkeypatch.setenv("BGAD_PLAIN", "1")
    assert model.describe(CUDA) == "plain"


def test_which_vectors_they_take(monkeypatch):
    monkeypatch.setattr(chain, "switched_on", lambda device: True)
    assert chain.available(torch.zeros(3, 128))
    assert not chain.available(torch.zeros(3, 129))  # b6's third level
    assert not chain.available(torch.zeros(3, 128, dtype=torch.float64))
