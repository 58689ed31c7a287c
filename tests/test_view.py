"""The live view: each state of a cell from a made-up tree and from a real Snakemake, the time left by hand, and a server that
answers this machine alone."""

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode

import pytest
from conftest import Project
from synthetic import cell, metrics, write, write_cell

from bgad import cli
from bgad.cli.options import suite_cells
from bgad.errors import BgadError
from bgad.report.collect import collect
from bgad.report.live.server import Live, serve
from bgad.report.live.status import Running, last_lines, status_of

NOW = 1_000_000.0


def lock(root, cells, at=NOW - 100):
    """Snakemake's lock on the outputs of a run."""
    path = root / ".snakemake/locks/0.output.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{of.folder}/metrics.json\n{of.folder}/model.pt\n" for of in cells))
    os.utime(path, (at, at))


def mark(root, of, at=NOW - 50, longest=255):
    """Snakemake's mark that an output is being made; a long name is cut into folders that begin with @."""
    name = urlsafe_b64encode(f"{of.folder}/metrics.json".encode()).decode()
    parts = [name[start : start + longest] for start in range(0, len(name), longest)]
    path = root.joinpath(".snakemake/incomplete", *("@" + part for part in parts[:-1]), parts[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    os.utime(path, (at, at))


def log(root, of, text, at=NOW - 10):
    write(root, of, "train.log", text)
    os.utime(root / of.folder / "train.log", (at, at))


def done(root, of, seconds=None):
    write_cell(root, of, metrics((90.0, 91.0)))
    if seconds is not None:
        write(root, of, "benchmark.tsv", f"s\th:m:s\n{seconds}\t0:00:00\n")


def state(root, of):
    return status_of([of], root, NOW).states[of]


ERROR = "epoch 1/3\nerror: the loss is not finite; lower the rate.\n"
CRASH = "epoch 1/3\nTraceback (most recent call last):\n  File x, line 1\nRuntimeError: out of memory\n"


def test_without_snakemake_a_cell_is_what_it_left_behind(tmp_path):
    told = {seed: text for seed, text in enumerate(("epoch 1/3\n", ERROR, CRASH, CRASH + "epoch 2/3\n"))}
    for seed, text in told.items():
        log(tmp_path, cell(seed=seed), text)
    done(tmp_path, cell(seed=4))
    states = status_of([cell(seed=seed) for seed in range(6)], tmp_path, NOW).states
    assert [*states.values()] == ["interrupted", "failed", "failed", "interrupted", "done", "not run"]


def test_a_python_error_is_the_reason_that_a_report_gives(tmp_path):
    log(tmp_path, cell(), CRASH)
    assert collect([cell()], tmp_path).status == {cell(): "failed: RuntimeError: out of memory"}


def test_what_a_run_has_locked_is_queued_until_it_is_marked_and_until_it_is_done(tmp_path):
    of = cell()
    lock(tmp_path, [of])
    assert state(tmp_path, of) == "queued"
    mark(tmp_path, of)
    assert state(tmp_path, of) == "running"
    log(tmp_path, of, ERROR)  # marks go when Snakemake has seen it end
    assert state(tmp_path, of) == "running"
    done(tmp_path, of)
    assert state(tmp_path, of) == "done"
    assert state(tmp_path, cell(seed=1)) == "not run", "of another suite"


def test_what_was_done_before_a_run_locked_it_is_made_anew(tmp_path):
    of = cell()
    done(tmp_path, of)
    log(tmp_path, of, "epoch 3/3\n", NOW - 200)
    os.utime(tmp_path / of.folder / "metrics.json", (NOW - 200, NOW - 200))
    assert state(tmp_path, of) == "done"
    lock(tmp_path, [of])
    assert state(tmp_path, of) == "queued"
    mark(tmp_path, of)
    assert state(tmp_path, of) == "running"
    done(tmp_path, of)
    assert state(tmp_path, of) == "done"


def test_a_long_name_of_a_mark_is_read(tmp_path):
    of = cell("a" * 200)
    lock(tmp_path, [of])
    mark(tmp_path, of, longest=100)
    assert state(tmp_path, of) == "running"


def test_a_failure_of_an_earlier_run_is_queued_again(tmp_path):
    of = cell()
    lock(tmp_path, [of])
    log(tmp_path, of, ERROR, at=NOW - 200)
    assert state(tmp_path, of) == "queued"
    log(tmp_path, of, ERROR)
    assert state(tmp_path, of) == "failed"


def test_marks_that_a_killed_run_left_do_not_count_for_the_next(tmp_path):
    of = cell()
    mark(tmp_path, of, at=NOW - 500)
    log(tmp_path, of, "epoch 1/3\n", at=NOW - 400)
    assert state(tmp_path, of) == "interrupted"
    lock(tmp_path, [of])
    assert state(tmp_path, of) == "queued"


def test_files_that_are_no_marks_are_passed_over(tmp_path):
    lock(tmp_path, [cell()])
    (tmp_path / ".snakemake/incomplete").mkdir()
    for name in ("migration_underway", "é", "abc"):
        (tmp_path / ".snakemake/incomplete" / name).touch()
    assert state(tmp_path, cell()) == "queued"


def test_the_time_left_by_hand(tmp_path):
    """Means: k 0 20 s, k 10 100 s. To come: two of k 10 of which one has run for 30 s, and one of k 0 that has run for 25 s,
    longer than its mean. (100 + 70 + 0) / 2 at once."""
    cells = [cell(seed=seed) for seed in range(4)] + [cell(k=0, seed=seed) for seed in range(3)]
    for of, seconds in zip([cells[0], cells[1], cells[4], cells[5]], (90.0, 110.0, 15.0, 25.0), strict=True):
        done(tmp_path, of, seconds)
    lock(tmp_path, cells)
    mark(tmp_path, cells[2], at=NOW - 30)
    mark(tmp_path, cells[6], at=NOW - 25)
    log(tmp_path, cells[2], "epoch 1/3\n", at=NOW - 12)
    found = status_of(cells, tmp_path, NOW)
    assert found.remaining_s == 85.0
    assert found.running[cells[2]].for_s == 30.0 and found.running[cells[2]].quiet_s == 12.0


def test_what_a_dead_run_has_locked_counts_no_longer(tmp_path):
    of = cell()
    lock(tmp_path, [of])
    mark(tmp_path, of)
    assert status_of([of], tmp_path, NOW).states == {of: "running"}
    alive = tmp_path / ".snakemake/alive"
    with alive.open("w") as held:  # by a run
        fcntl.flock(held, fcntl.LOCK_SH)
        assert status_of([of], tmp_path, NOW).states == {of: "running"}
    assert status_of([of], tmp_path, NOW).states == {of: "not run"}


def test_a_clock_that_was_set_back_gives_no_negative_times(tmp_path):
    of = cell()
    lock(tmp_path, [of])
    mark(tmp_path, of, at=NOW + 3600)
    log(tmp_path, of, "epoch 1/3\n", at=NOW + 3700)
    assert status_of([of], tmp_path, NOW).running[of] == Running(0, 0)


def test_the_time_of_a_detector_is_its_own(tmp_path):
    """Means: bgad-wo 100 s, patchcore 4 s. To come: a patchcore that has run for 1 s."""
    flows = [cell(k=0, seed=seed) for seed in range(2)]
    fitted = [cell(k=0, method="patchcore", seed=seed) for seed in range(2)]
    for of, seconds in zip([*flows, fitted[0]], (90.0, 110.0, 4.0), strict=True):
        done(tmp_path, of, seconds)
    lock(tmp_path, flows + fitted)
    mark(tmp_path, fitted[1], at=NOW - 1)
    assert status_of(flows + fitted, tmp_path, NOW).remaining_s == 3.0


@pytest.mark.parametrize("missing", ["a finished cell of its kind", "a running cell"])
def test_the_time_left_is_not_guessed(tmp_path, missing):
    cells = [cell(seed=0), cell(seed=1), cell(k=0)]
    done(tmp_path, cells[0], 10.0)
    lock(tmp_path, cells if missing == "a finished cell of its kind" else cells[:2])
    if missing != "a running cell":
        mark(tmp_path, cells[1])
    assert status_of(cells, tmp_path, NOW).remaining_s is None


def test_the_json_has_the_counts_and_the_last_lines_of_what_runs_or_failed(tmp_path):
    cells = [cell(seed=seed) for seed in range(4)]
    lock(tmp_path, cells)
    done(tmp_path, cells[0], 10.0)
    mark(tmp_path, cells[1])
    log(tmp_path, cells[1], "".join(f"epoch {number}\n" for number in range(1, 1001)))
    log(tmp_path, cells[2], ERROR)
    found = status_of(cells, tmp_path, NOW).as_json(tmp_path)
    assert found["cells"] == 4
    assert {s: n for s, n in found["counts"].items() if n} == {"done": 1, "running": 1, "failed": 1, "queued": 1}
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


STAND_IN = """
import sys, time
from pathlib import Path
folder = Path(sys.argv[1])
print("epoch 1/2", flush=True)
while not Path("go").exists():
    time.sleep(0.05)
if folder.name == "seed1":
    sys.exit("error: as asked.")
(folder / "metrics.json").write_text("{}")
"""
SNAKEFILE = """
rule all:
    input: expand("results/cpu/mvtec/carpet/seen/k10/bgad/seed{seed}/metrics.json", seed=range(3))
rule train:
    output: "results/cpu/mvtec/carpet/seen/k10/bgad/seed{seed}/metrics.json"
    log: "results/cpu/mvtec/carpet/seen/k10/bgad/seed{seed}/train.log"
    benchmark: "results/cpu/mvtec/carpet/seen/k10/bgad/seed{seed}/benchmark.tsv"
    shell: "{config[python]:q} stand_in.py $(dirname {output}) > {log} 2>&1"
"""


def test_a_snakemake_at_work_is_seen_as_it_is(tmp_path):
    """Three cells, two at a time; each waits for the file `go`, and the one of seed 1 fails."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    cells = [cell(seed=seed) for seed in range(3)]
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--config", f"python={sys.executable}"]
    assert {*status_of(cells, tmp_path).states.values()} == {"not run"}
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        try:
            until(
                lambda: (
                    all(last_lines(tmp_path / of.folder / "train.log") for of in status_of(cells, tmp_path).running)
                    and len(status_of(cells, tmp_path).running) == 2
                ),
                40,
            )
            states = [*status_of(cells, tmp_path).states.values()]
            assert sorted(states) == ["queued", "running", "running"]
            assert run.poll() is None
        finally:
            (tmp_path / "go").touch()
            said = run.communicate(timeout=40)[0]
    states = status_of(cells, tmp_path).states
    assert [states[of] for of in cells] == ["done", "failed", "done"], said
    assert status_of(cells, tmp_path).as_json(tmp_path)["shown"][0]["log"][-1] == "error: as asked."


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


def test_the_command_says_how_far_a_suite_is(project_folder, monkeypatch, capsys):
    assert bgad(monkeypatch, "view", "reports/demo", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["not run"] == len(suite_cells("demo", None)[1])


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("results/demo", "results/demo: not the folder of a suite's report; give reports/<suite>, in the project's folder.\n"),
        ("reports/no-such", "config/suites/no-such.yaml: cannot be read"),
    ],
)
def test_what_is_no_suite_is_refused(project_folder, monkeypatch, capsys, folder, said):
    assert bgad(monkeypatch, "view", folder, "--json") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1


def test_a_taken_port_is_said(served):
    with pytest.raises(BgadError, match=f"port {served[2].port}: cannot be served on .*; choose another --port"):
        serve(None, "a", served[2].port)


def test_the_command_serves_until_it_is_interrupted(project_folder):
    command = [sys.executable, "-m", "bgad", "view", "reports/demo"]
    count = len(suite_cells("demo", None)[1])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            address = run.stdout.readline().split(" is at ")[1].split()[0]
            ask = Client(int(address.rsplit(":", 1)[1].strip("/")))
            assert json.loads(ask("/status.json")[2])["cells"] == count
            assert f"0 of {count} cells measured" in ask.page()
            run.send_signal(signal.SIGINT)
            assert run.wait(timeout=20) == 0 and run.stderr.read() == ""
        finally:
            run.kill()  # or a test that fails would wait for a server that does not end
