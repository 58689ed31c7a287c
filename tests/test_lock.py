"""The lock file: what workflow/scripts/lock.py makes of an index's answer, and what the one in the project promises."""

import re
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

SCRIPT = ROOT / "workflow" / "scripts" / "lock.py"
LOCK = (ROOT / "requirements.lock").read_text()


def locked(packages: str) -> subprocess.CompletedProcess:
    text = f'lock-version = "1.0"\n{packages}'
    return subprocess.run([sys.executable, SCRIPT], input=text, capture_output=True, text=True, check=False)


def file(name: str, digit: str) -> str:
    return f'{{ url = "https://index/{digit}/{name}", hashes = {{ sha256 = "{digit * 64}" }} }}'


def package(*wheels: str, sdist: str = "", extra: str = "") -> str:
    return f'[[packages]]\nname = "a-b"\nversion = "1.0"\n{extra}\nwheels = [{", ".join(wheels)}]\n' + (
        f"sdist = {sdist}\n" if sdist else ""
    )


KEPT = [
    "a_b-1.0-py3-none-any.whl",
    "a_b-1.0-py2.py3-none-any.whl",
    "a_b-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    "a_b-1.0-cp313-cp313-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
    "a_b-1.0-1-cp312-cp312-macosx_11_0_arm64.whl",
    "a_b-1.0-cp39-abi3-manylinux_2_17_x86_64.whl",
    "a_b-1.0-py3-none-manylinux_2_27_aarch64.whl",
]
LEFT_OUT = [
    "a_b-1.0-cp310-cp310-manylinux_2_28_x86_64.whl",
    "a_b-1.0-cp313-cp313t-manylinux_2_28_x86_64.whl",
    "a_b-1.0-cp314-abi3-manylinux_2_28_x86_64.whl",
    "a_b-1.0-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl",
    "a_b-1.0-cp311-cp311-musllinux_1_2_x86_64.whl",
    "a_b-1.0-cp311-cp311-manylinux_2_31_riscv64.whl",
    "a_b-1.0-cp311-cp311-win_amd64.whl",
    "a_b-1.0-cp311-cp311-macosx_10_13_x86_64.whl",
]


@pytest.mark.parametrize("name", KEPT)
def test_wheels_for_the_machines_of_the_lock_file_are_kept(name):
    done = locked(package(file(LEFT_OUT[0], "f"), file(name, "1"), sdist=file("a_b-1.0.tar.gz", "2")))
    assert done.stdout.splitlines()[2:] == ["a-b==1.0 \\", f"    --hash=sha256:{'1' * 64}"]


@pytest.mark.parametrize("name", LEFT_OUT)
def test_other_wheels_are_left_out(name):
    done = locked(package(file(KEPT[0], "1"), file(name, "f")))
    assert done.stdout.splitlines()[2:] == ["a-b==1.0 \\", f"    --hash=sha256:{'1' * 64}"]


def test_a_marker_stays_and_hashes_are_in_order():
    marker = "marker = \"sys_platform == 'linux'\""
    done = locked(package(file(KEPT[3], "2"), file(KEPT[2], "1"), extra=marker))
    hashes = [f"    --hash=sha256:{'1' * 64} \\", f"    --hash=sha256:{'2' * 64}"]
    assert done.stdout.splitlines()[2:] == ["a-b==1.0 ; sys_platform == 'linux' \\", *hashes]


def test_a_source_stands_only_where_there_is_no_wheel():
    only_source = package(sdist=file("a_b-1.0.tar.gz", "2"))
    assert locked(only_source).stdout.splitlines()[2:] == ["a-b==1.0 \\", f"    --hash=sha256:{'2' * 64}"]


@pytest.mark.parametrize("packages", [package(file(LEFT_OUT[0], "1"), sdist=file("a_b-1.0.tar.gz", "2")), ""])
def test_what_cannot_be_locked_fails(packages):
    assert locked(packages).returncode != 0


def test_every_package_of_the_lock_file_has_a_version_and_hashes():
    entries = re.split(r"(?<!\\)\n", LOCK.strip())[2:]
    assert len(entries) > 100
    assert len({entry.partition("==")[0] for entry in entries}) == len(entries)  # one version, whatever the machine
    for entry in entries:
        name, *hashes = entry.split(" \\\n    ")
        assert re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+( ; .+)?", name), name
        assert hashes and all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", one) for one in hashes), name
    assert "://" not in LOCK and "file:" not in LOCK


def test_the_lock_file_has_what_the_project_asks_for_and_what_builds_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    asked = [*project["project"]["dependencies"], *extras["dev"], *extras["export"]]
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in asked + project["build-system"]["requires"]]
    assert {name.lower().replace("_", "-") for name in names} <= set(re.findall("^([a-z0-9-]+)==", LOCK, re.MULTILINE))


def test_nothing_is_installed_without_its_hash():
    script = (ROOT / "workflow/envs/install.sh").read_text()
    installs = [line for line in script.splitlines() if "pip_install --" in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in installs)
    first = "sed -n '/^setuptools==/,/[^\\\\]$/p' requirements.lock"  # the command of the script
    assert first in script
    builder = subprocess.run(first, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"setuptools==[\d.]+ \\\n    --hash=sha256:[0-9a-f]{64}\n", builder)
    for name in ("Makefile", "workflow/envs/bgad.post-deploy.sh", "environment.yml"):
        text = (ROOT / name).read_text()
        assert "workflow/envs/install.sh" in text and "pip install -r" not in text
