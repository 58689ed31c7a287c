"""What this machine gives this process: cores, memory and disk, below the limits of a container or a batch system."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

CGROUP = Path("/sys/fs/cgroup")
# Files of the two versions of control groups; a container sees its own limits there.
MEMORY_LIMIT = ("memory.max", "memory/memory.limit_in_bytes")
MEMORY_USED = ("memory.current", "memory/memory.usage_in_bytes")
# Of what is used, copies of files that give way at once; without them, a feature cache that was read would look like no room.
MEMORY_STAT = {"memory.stat": "inactive_file", "memory/memory.stat": "total_inactive_file"}


class Memory(NamedTuple):
    """In MB (of a million bytes): all that there is, and what is free to be taken."""

    total: int
    available: int


def cores(cgroup: Path = CGROUP) -> int:
    """CPU cores that this process may use, at least 1: its affinity, and the quota of its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _numbers(cgroup / "cpu.max")
    if len(quota) < 2:
        quota = _numbers(cgroup / "cpu/cpu.cfs_quota_us") + _numbers(cgroup / "cpu/cpu.cfs_period_us")
    if len(quota) == 2 and quota[0] > 0:
        allowed = min(allowed, quota[0] // quota[1])
    return max(1, allowed)


def memory(cgroup: Path = CGROUP) -> Memory:
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    limits = [number for name in MEMORY_LIMIT for number in _numbers(cgroup / name)]
    if limits and limits[0] < total:
        used = [number for name in MEMORY_USED for number in _numbers(cgroup / name)]
        in_use = (used or [0])[0] - _reclaimable(cgroup)
        total, available = limits[0], min(available, limits[0] - in_use)
    return Memory(total // 10**6, max(0, available) // 10**6)


def disk_free(folder: Path) -> int:
    """MB free where ``folder`` is or would be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free // 10**6


def _reclaimable(cgroup: Path) -> int:
    """Bytes; 0 where they are not told."""
    for name, key in MEMORY_STAT.items():
        with suppress(OSError, ValueError, KeyError):
            return int(dict(line.split() for line in (cgroup / name).read_text().splitlines())[key])
    return 0


def _numbers(path: Path) -> list[int]:
    """The numbers in a file; none where it is not there or says "max", which is no limit."""
    with suppress(OSError, ValueError):
        return [int(word) for word in path.read_text().split()]
    return []
