"""Trainings on one GPU at once: never more than its memory takes, whatever nvidia-smi says, or if nobody says anything."""

import pytest

from bgad.config.gpu_share import percent_of_gpu


def nvidia_smi(folder, monkeypatch, says, status=0):
    """Puts a program of that name, and no other one, on the path."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n[ \"$1\" = --query-gpu=memory.total ] || exit 3\nprintf '{says}'\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


@pytest.mark.parametrize("total", [4000, 6000, 6001, 16384, 24564, 81559])
def test_as_many_as_fit_and_no_more(tmp_path, monkeypatch, total):
    nvidia_smi(tmp_path, monkeypatch, f"{total}\\n")
    at_once = 100 // percent_of_gpu(6000)
    assert at_once >= 1
    assert at_once == 1 or at_once * 6000 <= total
    # Whole percents may cost one of many, not one of few.
    assert at_once >= min(total // 6000, 8)


def test_the_first_of_several_gpus_counts(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, "24000\\n80000\\n")
    assert percent_of_gpu(6000) == 25


@pytest.mark.parametrize("says", ["", "[N/A]\\n", "No devices were found\\n"])
def test_where_nobody_knows_one_at_a_time(tmp_path, monkeypatch, says):
    nvidia_smi(tmp_path, monkeypatch, says)
    assert percent_of_gpu(6000) == 100


def test_without_nvidia_smi_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert percent_of_gpu(6000) == 100
