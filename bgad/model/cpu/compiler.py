"""Compiles this package's C code with the machine's own compiler, once for each kind of processor, into the user's cache."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from bgad.errors import BgadError
from bgad.io import whole

# No -ffast-math: it hides NaN, and loading it changes the arithmetic of the entire process.
FLAGS = ("-O3", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math")
NATIVE = ("-march=native", "-mcpu=native")  # the first that the compiler accepts


def compiled(source: Path, *included: Path) -> ctypes.CDLL | None:
    """``source``, which includes the others, built for this processor and loaded.

    None if $BGAD_PLAIN is set, or, with a note on stderr, without a working C compiler ($CC, cc, gcc or clang).
    """
    if os.environ.get("BGAD_PLAIN"):
        return None
    names = filter(None, (os.environ.get("CC"), "cc", "gcc", "clang"))
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        _note_missing(source, "there is no C compiler (cc, gcc or clang)")
        return None
    name = f"{source.stem}-{_identity(compiler, source, *included)}.so"
    try:
        library = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bgad" / name
        if not library.exists():
            _build(source, compiler, library)
        return ctypes.CDLL(str(library))
    except subprocess.CalledProcessError as error:
        reason = f"{compiler} failed: {(error.stderr.strip().splitlines() or ['no message'])[0]}"
    except (BgadError, OSError, RuntimeError) as error:
        reason = str(error)
    _note_missing(source, reason)
    return None


def _build(source: Path, compiler: str, library: Path) -> None:
    with whole(library) as temporary:
        for native in NATIVE:
            command = [compiler, *FLAGS, native, "-o", str(temporary), str(source), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                break
        done.check_returncode()


def _identity(compiler: str, *sources: Path) -> str:
    """A hash of everything that the built code depends on; machines with a shared home can have different processors."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    abilities = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    texts = (source.read_text(encoding="utf-8") for source in sources)
    parts = (*texts, *FLAGS, version, platform.machine(), platform.processor(), abilities)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _note_missing(source: Path, reason: str) -> None:
    print(
        f"note: {source.name} is not compiled: {reason}; flows run in FrEIA's own operations, which are slower.",
        file=sys.stderr,
    )
