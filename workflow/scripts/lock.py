"""Turns a pylock.toml (PEP 751) on standard input into requirements.lock: exact versions with the SHA-256 of their files.

It keeps the hashes of the wheels that pip installs on the platforms below, and of the source only if a package has no wheel:
to build a source, pip would download other packages without checking their hashes.
"""

import re
import sys
import tomllib
from collections.abc import Iterator

PYTHONS = (311, 312, 313)  # CPython; one package has no wheel for 3.14 yet
PLATFORM = re.compile(r"any|(manylinux|linux).*_(x86_64|aarch64)|macosx_.*_(arm64|universal2)")
HEAD = """\
# Exact versions of everything with the hashes of their files, from `make lock`; the ranges are in pyproject.toml.
# For CPython 3.11 to 3.13 on Linux (x86-64, arm64) and macOS (arm64)."""


def main() -> None:
    print(HEAD)
    for package in tomllib.load(sys.stdin.buffer)["packages"]:
        print(*entry(package), sep=" \\\n    ")


def entry(package: dict) -> Iterator[str]:
    """A package's lines: name, version and marker, then its hashes. ValueError if none of its files fits."""
    marker = f" ; {package['marker']}" if "marker" in package else ""
    yield f"{package['name']}=={package['version']}{marker}"
    wheels = package.get("wheels", [])
    files = [file for file in wheels if fits(file["url"])] if wheels else [package["sdist"]]
    if not files:
        raise ValueError(f"{package['name']} {package['version']} has no wheel for the platforms of the lock file.")
    yield from sorted({f"--hash=sha256:{file['hashes']['sha256']}" for file in files})


def fits(wheel: str) -> bool:
    """Whether the tags in a wheel's name match one of the PYTHONS and a PLATFORM."""
    python, abi, platform = wheel.removesuffix(".whl").rsplit("-", 3)[1:]
    if not any(map(PLATFORM.fullmatch, platform.split("."))):
        return False
    versions = [int(digits) for digits in re.findall(r"\bcp(3\d+)", python)]
    if abi == "abi3":  # from that version on
        return any(version <= max(PYTHONS) for version in versions)
    if abi == "none":
        return "py3" in python.split(".") or any(version in PYTHONS for version in versions)
    return abi in {f"cp{version}" for version in PYTHONS}


if __name__ == "__main__":
    main()
