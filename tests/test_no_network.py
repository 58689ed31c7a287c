"""Nothing connects beyond this machine: no import, no plan, no test (conftest.py guards them all)."""

import os
import pkgutil
import socket
import subprocess
import sys

import pytest
from conftest import reached_out

import bgad

ELSEWHERE = "192.0.2.1"  # reserved for documentation (RFC 5737)
HEAVY = ("albumentations", "huggingface_hub", "plotly", "skimage", "sklearn", "snakemake", "timm", "torchvision")
# These must come from the package, not from the environment of the tests or of a user.
SILENCERS = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE")


def run(*command: str, **options) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key not in SILENCERS}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(
    "reach",
    [
        f"socket.create_connection(('{ELSEWHERE}', 443), 1)",
        f"socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{ELSEWHERE}', 53))",
        "socket.getaddrinfo('example.org', 443)",
        "socket.gethostbyname('example.org')",
    ],
)
def test_the_guard_sees_every_way_out_here_and_in_what_is_started(reach):
    with pytest.raises(OSError, match="no network"):
        eval(reach)
    assert reached_out().count("\n") == 1
    hidden = f"import socket, contextlib\nwith contextlib.suppress(BaseException): {reach}"
    assert run(sys.executable, "-c", hidden).returncode == 0
    assert reached_out().count("\n") == 1


def test_this_machine_itself_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_an_import_of_everything_connects_to_nothing():
    modules = [module.name for module in pkgutil.walk_packages(bgad.__path__, "bgad.") if module.name != "bgad.__main__"]
    assert len(modules) > 50
    done = run(sys.executable, "-c", "\n".join(f"import {name}" for name in (*modules, *HEAVY)))
    assert done.returncode == 0, done.stderr
    assert reached_out() == ""


def test_a_help_and_a_plan_connect_to_nothing(project):
    for words in (["bgad", "--help"], ["snakemake", "--dry-run", "--cores", "1", "reports/demo/table.md"]):
        done = run(sys.executable, "-m", *words, cwd=project.folder)
        assert done.returncode == 0, done.stdout + done.stderr
    assert reached_out() == ""
