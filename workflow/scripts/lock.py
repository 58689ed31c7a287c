"""Turns `pip freeze` on standard input into requirements.lock: exact versions, with the platform where one belongs to it."""

import re
import sys

# torch's CUDA packages come with its Linux wheels for x86-64 alone.
CUDA = re.compile(r"^(nvidia-|cuda-|triton==)")
MARKER = ' ; sys_platform == "linux" and platform_machine == "x86_64"'

print("# Exact versions of everything, from `make lock`; the ranges are in pyproject.toml.")
for line in sys.stdin:
    line = line.strip()
    if line:
        print(line + (MARKER if CUDA.match(line) else ""))
