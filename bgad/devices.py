"""The one owner of devices: which one computes, with how many threads, and what a result records about it."""

import ctypes
import platform
import re
import resource
import sys
from pathlib import Path

import torch

from bgad.errors import ConfigError


def choose(name: str = "auto", threads: int | None = None) -> torch.device:
    """The device of that name (auto: the first GPU, else the CPU), with the number of CPU threads set."""
    if threads:
        torch.set_num_threads(threads)
    _keep_freed_memory()
    # Trained flows have tiny gradients, whose denormal numbers slow a CPU many times over.
    torch.set_flush_denormal(True)
    # By default a GPU's convolutions round their inputs to TensorFloat-32's 10 bits, and features differ from a CPU's by two
    # thousandths.
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"device {name}: unknown; use auto, cpu, cuda or cuda:<n>.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name}: this machine has {torch.cuda.device_count()} GPUs; use auto or cpu.")
    return device


def describe(device: torch.device) -> dict[str, str | int]:
    """The device, the processor and the thread count, for a result's record."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "cpu": _processor(), "threads": torch.get_num_threads()}


def gpus() -> list[tuple[str, int]]:
    """Name and memory, in MB (of a million bytes), of each GPU that PyTorch can use."""
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [(gpu.name, gpu.total_memory // 10**6) for gpu in found]


def peak_memory_mb(device: torch.device) -> tuple[float, float | None]:
    """The peak memory of this process in MB: resident, and on the GPU (None without one)."""
    status = Path("/proc/self/status")
    high_water = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if high_water:  # getrusage also counts the peak of the process that started this one
        resident = int(high_water[1]) / 2**10
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resident = peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, kilobytes elsewhere
    on_gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return round(resident, 1), None if on_gpu is None else round(on_gpu, 1)


def _keep_freed_memory() -> None:
    """Tells glibc to keep large freed blocks: getting them back from the system faults in every page.

    A step on a CPU allocates hundreds of buffers of about a megabyte. Without glibc nothing happens.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # from malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(m_mmap_threshold, 2**30)
    mallopt(m_trim_threshold, 2**31 - 1)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
