"""The live view: the state of cells from the files in their folders, the time left by hand, and a server that answers this
machine only."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import Project
from synthetic import cell, metrics, write, write_cell

from bgad import cli
from bgad.cli.options import suite_cells
from bgad.errors import BgadError, ConfigError
from bgad.locks import alone
from bgad.report.collect import collect
from bgad.report.live.server import Live, serve
from bgad.report.live.status import RECENT, last_lines, status_of

NOW = 1_000_000.0
ERROR = "epoch 1/3\nerror: the loss is not finite; lower the rate.\n"
CRASH = "epoch 1/3\nTraceback (most recent call last):\n  File x, line 1\nRuntimeError: out of memory\n"


def log(root, of, text="epoch 1/3\n", at=NOW - 2 * RECENT):
    """The log of a cell, last written at ``at``."""
    write(root, of, "train.log", text)
    os.utime(root / of.folder / "train.log", (at, at))


def run(root, of, since=50.0, quiet=10.0):
    """A cell that runs, by its log and a lock that nobody sees held."""
    log(root, of, at=NOW - quiet)
    write(root, of, ".lock", "")
    os.utime(root / of.folder / ".lock", (NOW - since, NOW - since))


def done(root, of, seconds=None):
    write_cell(root, of, metrics((90.0, 91.0)))
    if seconds is not None:
        write(root, of, "benchmark.tsv", f"s\th:m:s\n{seconds}\t0:00:00\n")


def state(root, of):
    return status_of([of], root, NOW).states[of]


@pytest.mark.parametrize("text", [ERROR, CRASH])
@pytest.mark.parametrize("at", [NOW, NOW - 2 * RECENT])
def test_a_log_that_ends_in_an_error_is_a_failure(tmp_path, text, at):
    log(tmp_path, cell(), text, at)
    assert state(tmp_path, cell()) == "failed"


def test_a_python_error_is_the_reason_in_the_report(tmp_path):
    log(tmp_path, cell(), CRASH)
    assert collect([cell()], tmp_path).status == {cell(): "failed: RuntimeError: out of memory"}


def test_a_cell_without_a_log_or_with_an_old_one_is_queued(tmp_path):
    assert state(tmp_path, cell()) == "queued"
    log(tmp_path, cell())
    assert state(tmp_path, cell()) == "queued"


def test_a_cell_whose_log_grew_lately_is_running(tmp_path):
    log(tmp_path, cell(), "", at=NOW - RECENT + 1)  # before it takes its lock
    assert state(tmp_path, cell()) == "running"


def test_a_cell_is_running_while_its_lock_is_held_however_old_its_log(tmp_path):
    log(tmp_path, cell(), ERROR)  # of an earlier run
    with alone(tmp_path / cell().folder):
        assert state(tmp_path, cell()) == "running"
    write(tmp_path, cell(), ".lock", "")  # what a killed run leaves
    assert state(tmp_path, cell()) == "failed"


def test_a_cell_with_metrics_is_done(tmp_path):
    run(tmp_path, cell())
    done(tmp_path, cell())
    assert state(tmp_path, cell()) == "done"


def test_the_files_of_snakemake_are_not_read(tmp_path):
    lock = tmp_path / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"{cell().folder}/metrics.json\n")
    lock.chmod(0)
    assert state(tmp_path, cell()) == "queued"


def test_the_time_left_by_hand(tmp_path):
    """Means: k 0 20 s, k 10 100 s. To come: two of k 10 of which one has run for 30 s, and one of k 0 that has run for 25 s,
    longer than its mean. (100 + 70 + 0) / 2 at once."""
    cells = [cell(seed=seed) for seed in range(4)] + [cell(k=0, seed=seed) for seed in range(3)]
    for of, seconds in zip([cells[0], cells[1], cells[4], cells[5]], (90.0, 110.0, 15.0, 25.0), strict=True):
        done(tmp_path, of, seconds)
    run(tmp_path, cells[2], since=30, quiet=12)
    run(tmp_path, cells[6], since=25)
    found = status_of(cells, tmp_path, NOW)
    assert found.remaining_s == 85.0
    assert found.running[cells[2]] == (30.0, 12.0)


def test_a_clock_that_was_set_back_gives_no_negative_times(tmp_path):
    run(tmp_path, cell(), since=-3600, quiet=-3700)
    assert status_of([cell()], tmp_path, NOW).running[cell()] == (0, 0)


def test_other_methods_have_their_own_mean_time(tmp_path):
    """Means: bgad-wo 100 s, patchcore 4 s. To come: a patchcore that has run for 1 s."""
    flows = [cell(k=0, seed=seed) for seed in range(2)]
    fitted = [cell(k=0, method="patchcore", seed=seed) for seed in range(2)]
    for of, seconds in zip([*flows, fitted[0]], (90.0, 110.0, 4.0), strict=True):
        done(tmp_path, of, seconds)
    run(tmp_path, fitted[1], since=1, quiet=1)
    assert status_of(flows + fitted, tmp_path, NOW).remaining_s == 3.0


@pytest.mark.parametrize("missing", ["a finished cell of its kind", "a running cell"])
def test_the_time_left_is_not_guessed(tmp_path, missing):
    cells = [cell(seed=0), cell(seed=1), *([cell(k=0)] if missing == "a finished cell of its kind" else [])]
    done(tmp_path, cells[0], 10.0)
    if missing != "a running cell":
        run(tmp_path, cells[1])
    assert status_of(cells, tmp_path, NOW).remaining_s is None


def test_the_json_has_the_counts_and_the_last_log_lines(tmp_path):
    cells = [cell(seed=seed) for seed in range(4)]
    done(tmp_path, cells[0], 10.0)
    run(tmp_path, cells[1])
    log(tmp_path, cells[1], "".join(f"epoch {number}\n" for number in range(1, 1001)), at=NOW - 10)
    log(tmp_path, cells[2], ERROR)
    found = status_of(cells, tmp_path, NOW).as_json(tmp_path)
    assert found["cells"] == 4
    assert found["counts"] == {"done": 1, "running": 1, "failed": 1, "queued": 1}
    running, failed = found["shown"]
    assert running["cell"] == cells[1].folder.as_posix() and running["log"][-1] == "epoch 1000" and len(running["log"]) == 6
    assert (running["for_s"], running["quiet_s"]) == (50, 10)
    assert failed["state"] == "failed" and failed["log"] == ERROR.splitlines()
    assert last_lines(tmp_path / "none") == []


class Client:
    def __init__(self, port):
        self.port = port

    def __call__(self, path, method="GET", host=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()

    def page(self, wanted=lambda text: True):
        """The page's text as soon as it is as wanted."""
        for _ in range(100):
            status, _, text = self("/report.html")
            if status == 200 and wanted(text):
                return text
            time.sleep(0.1)
        raise AssertionError(f"no such page: {status} {text[:200]}")


@pytest.fixture
def served(tmp_path):
    """A suite of two cells, one of them done, whose page lists what is done; and a client of its server."""
    cells = [cell(seed=0), cell(seed=1)]
    done(tmp_path, cells[0])

    def make_page(status):
        return " ".join(f"seed{of.seed}" for of, state in status.states.items() if state == "done")

    with Live(cells, make_page, tmp_path, apart=0.2) as live, serve(live, "<b>A suite</b>") as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        assert server.server_address[0] == "127.0.0.1"
        yield tmp_path, cells, Client(server.server_port)
        server.shutdown()


def test_page_and_status_follow_the_files(served):
    root, cells, ask = served
    assert ask.page() == "seed0"
    before = json.loads(ask("/status.json")[2])
    assert before["counts"]["done"] == 1 and len(before["page"]) == 16 and before["page_error"] is None
    done(root, cells[1])
    assert ask.page(lambda text: "seed1" in text) == "seed0 seed1"
    after = json.loads(ask("/status.json")[2])
    assert after["counts"]["done"] == 2 and after["page"] != before["page"]


def test_the_shell_escapes_the_title_and_forbids_other_sources(served):
    status, headers, text = served[2]("/")
    assert status == 200 and "&lt;b&gt;A suite" in text and "<b>" not in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"


FOREIGN = ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "[", "localhost@evil.example"]


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("path", ["/", "/status.json", "/report.html"])
def test_another_host_s_name_is_refused(served, host, path):
    status, _, text = served[2](path, host=host or " ")
    assert status == 403 and "seed" not in text


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:80", "LOCALHOST"])
def test_this_machine_s_names_are_answered(served, host):
    assert served[2]("/status.json", host=host)[0] == 200


@pytest.mark.parametrize("path", ["/metrics.json", "/../pyproject.toml", "/results/", "/report.html/x", "/%2e%2e/etc/passwd"])
def test_no_other_file_is_served(served, path):
    assert served[2](path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_nothing_but_reading(served, method):
    status, headers, _ = served[2]("/status.json", method)
    assert status == 405 and headers["Allow"] == "GET"


def test_a_page_that_cannot_be_made_is_said_and_the_last_one_stays(tmp_path):
    cells = [cell(seed=0), cell(seed=1)]

    def make_page(status):
        if status.states[cells[0]] == "done":
            raise BgadError("metrics.json: belongs to another cell.")
        return "a page"

    with Live(cells, make_page, tmp_path, apart=0.1) as live:
        until(lambda: live.page)
        done(tmp_path, cells[0])
        until(lambda: live.page_error)
        assert live.page[1] == b"a page" and live.as_json()["page_error"] == "metrics.json: belongs to another cell."


def test_a_page_that_could_not_be_made_once_is_made_at_the_next_look(tmp_path):
    """Without any cell having changed, as when a file was just being replaced."""
    tries = []

    def make_page(status):
        tries.append(status)
        if len(tries) == 1:
            raise FileNotFoundError("model.pt")
        return "a page"

    with Live([cell()], make_page, tmp_path, apart=0.1) as live:
        until(lambda: live.page)
        until(lambda: live.page_error is None)


def until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def project_folder(tmp_path, monkeypatch):
    folder = tmp_path / "the project"
    folder.mkdir()
    Project(folder)
    monkeypatch.chdir(folder)
    return folder


def bgad(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["bgad", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0


def test_the_command_prints_the_progress_of_a_suite(project_folder, monkeypatch, capsys):
    assert bgad(monkeypatch, "view", "reports/demo", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["queued"] == len(suite_cells("demo", None)[1])


@pytest.mark.parametrize(
    ("folder", "named"), [("results/demo", "results/demo: "), ("reports/no-such", "config/suites/no-such.yaml: ")]
)
def test_a_folder_without_a_suite_is_refused(project_folder, monkeypatch, capsys, folder, named):
    assert bgad(monkeypatch, "view", folder, "--json") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {named}") and error.count("\n") == 1


def test_a_taken_port_is_named(served):
    with pytest.raises(ConfigError, match=f"--port {served[2].port}"):
        serve(None, "a", served[2].port)


def test_the_command_serves_until_it_is_interrupted(project_folder):
    command = [sys.executable, "-m", "bgad", "view", "reports/demo"]
    count = len(suite_cells("demo", None)[1])
    # A shell's background job ignores SIGINT, and so would its children.
    heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heeds) as run:
        try:
            address = run.stdout.readline().split(" is at ")[1].split()[0]
            ask = Client(int(address.rsplit(":", 1)[1].strip("/")))
            assert json.loads(ask("/status.json")[2])["cells"] == count
            assert f"0 of {count} cells measured" in ask.page()
            run.send_signal(signal.SIGINT)
            assert run.wait(timeout=20) == 0 and run.stderr.read() == ""
        finally:
            run.kill()  # or a test that fails would wait for a server that does not end
