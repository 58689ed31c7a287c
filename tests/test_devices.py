"""What a machine is asked about."""

import subprocess
import sys

import pytest
import torch

from bgad import devices
from bgad.errors import ConfigError


def test_peak_memory_is_this_process_own():
    """A child of a process that once was large must not count that."""
    code = "import torch; from bgad.devices import peak_memory_mb; print(peak_memory_mb(torch.device('cpu'))[0])"
    command = f"import subprocess, sys; held = bytearray(1500 * 2**20); subprocess.run([sys.executable, '-c', {code!r}])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert 100 < float(done.stdout) < 1400


@pytest.mark.parametrize("name", ["mps", "meta", "cuda:x", "gpu", "cpu:1"])
def test_devices_that_cannot_train_are_refused(name):
    with pytest.raises(ConfigError, match="device"):
        devices.choose(name)


def test_convolutions_are_in_single_precision_on_a_gpu_too(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert devices.choose("cpu") == torch.device("cpu")
    assert torch.backends.cudnn.allow_tf32 is False
