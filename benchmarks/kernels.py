"""Compiles the Triton kernels for NVIDIA's cards and prints what a program takes of one. It needs no card.

    .venv/bin/python benchmarks/kernels.py                 all levels of both backbones, for sm_80 and sm_90
    .venv/bin/python benchmarks/kernels.py 24              flows of 24 channels alone

Registers beyond 255 a thread are spilled to memory; a card has 64 (sm_75) to 227 KB (sm_90) of shared memory a program. It says
nothing about speed.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)  # kernels for the interpreter cannot be compiled

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource, CompiledKernel

from bgad.model.gpu import chain, kernels

CARDS = (80, 90)
CHANNELS = (24, 40, 72, 112)  # of lite0's and b6's levels that the kernels take
POSITION_CHANNELS = 128
NUMBERS = {"vectors": "i32", "blocks": "i32", "width": "i32", "height": "i32", "clamp": "fp32"}
KERNELS = {"forward": (kernels.forward, True), "scoring": (kernels.forward, False), "backward": (kernels.backward, False)}


def compiled(kernel: triton.JITFunction, keep: bool, channels: int, card: int) -> CompiledKernel:
    active = channels // 2
    passive = channels - active
    inputs = passive + POSITION_CHANNELS
    fixed = {**chain.shape(passive, active, 2 * inputs, inputs), "KEEP": keep}
    of_names = {name: "*i32" if name in ("column", "row") else "*fp32" for name in kernel.arg_names} | NUMBERS
    signature = {name: "constexpr" if name in fixed else of_names[name] for name in kernel.arg_names}
    # PyTorch's tensors start at multiples of 16 bytes.
    aligned = {(place,): [["tt.divisibility", 16]] for place, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(kernel, signature, {name: fixed[name] for name in signature if name in fixed}, aligned)
    return triton.compile(source, target=GPUTarget("cuda", card, 32), options={"num_warps": chain.WARPS})


def registers(kernel: CompiledKernel, card: int) -> tuple[int, int]:
    """Registers a thread, and bytes of spilled ones that it stores."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(kernel.asm["ptx"])
        target = f"--gpu-name=sm_{card}" + ("a" if card >= 90 else "")
        command = [get_ptxas(card).path, "-v", target, source, "-o", os.devnull]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    [taken], [spilled] = re.findall(r"Used (\d+) registers", said), re.findall(r"(\d+) bytes spill stores", said)
    return int(taken), int(spilled)


def main() -> None:
    print(f"{'card':8}{'channels':>9}  {'kernel':9}{'shared, KB':>11}{'registers':>11}{'spilled, B':>12}")
    for card in CARDS:
        for channels in map(int, sys.argv[1:]) if sys.argv[1:] else CHANNELS:
            for name, (kernel, keep) in KERNELS.items():
                found = compiled(kernel, keep, channels, card)
                taken, spilled = registers(found, card)
                shared = found.metadata.shared / 1024
                print(f"{f'sm_{card}':8}{channels:9}  {name:9}{shared:11.1f}{taken:11}{spilled:12}", flush=True)


if __name__ == "__main__":
    main()
