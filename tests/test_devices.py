"""What a machine is asked about."""

import subprocess
import sys


def test_peak_memory_is_this_process_own():
    """A child of a process that once was large must not count that."""
    code = "import torch; from bgad.devices import peak_memory_mb; print(peak_memory_mb(torch.device('cpu'))[0])"
    command = f"import subprocess, sys; held = bytearray(1500 * 2**20); subprocess.run([sys.executable, '-c', {code!r}])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert 100 < float(done.stdout) < 1400
