"""Fetching from a local server that misbehaves in every way a real one does."""

import hashlib
import re
import time
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
from servers import BODY, HASH, Server, serving

from bgad.data.download import presets
from bgad.data.download.fetch import CHUNK, PROGRESS, DownloadError, fetch
from bgad.errors import FileError
from bgad.features.weights import published


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "a.tar.xz"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def fetched(server: Server, target: Path, *paths: str, **options) -> str:
    return fetch([server.url(path) for path in paths], target, **{"sha256": HASH, "wait": 0.01, **options})


def test_a_good_server_is_asked_once_and_a_file_that_exists_is_only_checked(server, target):
    assert fetched(server, target, "/a", "/b", size=len(BODY)) == HASH
    assert (target.read_bytes(), server.seen, left(target)) == (BODY, [("/a", None)], ["a.tar.xz"])
    assert fetched(server, target, "/a") == HASH
    target.write_bytes(b"something else")
    with pytest.raises(FileError, match=rf"^{target}: has .* instead of {HASH}"):
        fetched(server, target, "/a")
    assert target.read_bytes() == b"something else" and len(server.seen) == 1


# What goes wrong, hash and size as they are known, the byte that each request asks to resume from, and its path.
RECOVERED = {
    "a broken connection is resumed": ([("cut", 300_000), "ok"], HASH, None, [None, 1]),
    "a server that ignores ranges is read from the start": ([("cut", 300_000), "no ranges"], HASH, None, [None, 1]),
    "a range that starts elsewhere is not appended": ([("cut", 300_000), ("shift", 7), "ok"], None, None, [None, 1, None]),
    "a short file without a length is told by the size": ([("no length", 100_000), "ok"], None, len(BODY), [None, 100_000]),
    "corrupt bytes are fetched again": (["corrupt", "ok"], HASH, None, [None, None]),
}


@pytest.mark.parametrize("case", RECOVERED)
def test_a_passing_fault_is_survived(server, target, case):
    server.faults["/a"], sha256, size, starts = list(RECOVERED[case][0]), *RECOVERED[case][1:]
    assert fetched(server, target, "/a", sha256=sha256, size=size) == HASH
    assert target.read_bytes() == BODY and left(target) == ["a.tar.xz"]
    assert [request.range is None for request in server.seen] == [start is None for start in starts]
    assert starts[-1] != 100_000 or server.seen[-1].range == "bytes=100000-"


# What goes wrong for ever, hash and size as they are known, and the number of tries out of three.
GIVEN_UP = {
    "truncated, with a hash": (("truncate", 100_000), HASH, None, 3),
    "truncated, with a size": (("truncate", 100_000), None, len(BODY), 3),
    "corrupt": ("corrupt", HASH, None, 3),
    "not found": (404, HASH, None, 1),
    "a web page": ("page", None, None, 1),
    "endless": (("no length", len(BODY)), None, None, 1),
    "longer than its size": (("no length", len(BODY)), None, 1000, 1),
    "asks to wait an hour": ((429, "3600"), HASH, None, 1),
}


@pytest.mark.parametrize("case", GIVEN_UP)
def test_a_lasting_fault_goes_to_the_mirror_or_is_named_with_its_address(server, target, monkeypatch, case):
    fault, sha256, size, tries = GIVEN_UP[case]
    if "wait" in case:
        monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    monkeypatch.setattr("bgad.data.download.fetch.MOST", len(BODY) - (case == "endless"))
    server.faults["/a"] = [fault]
    with pytest.raises(DownloadError) as error:
        fetched(server, target, "/a", sha256=sha256, size=size, retries=3)
    assert server.url("/a") in str(error.value) and str(target) in str(error.value)
    assert len(server.seen) == tries and left(target) == []
    if case not in ("endless", "longer than its size"):
        server.seen.clear()
        assert fetched(server, target, "/a", "/b", sha256=sha256, size=size, retries=3) == HASH
        assert [request.path for request in server.seen] == ["/a"] * tries + ["/b"]


def test_a_later_run_resumes_what_an_earlier_one_left(server, target):
    server.faults["/a"] = [("cut", 200_000)]
    with pytest.raises(DownloadError, match=r"the connection failed at byte \d+"):
        fetch([server.url("/a")], target, HASH, retries=1, wait=0.01)
    assert not target.exists()
    part = target.with_name("a.tar.xz.part")
    kept = part.read_bytes()
    assert len(kept) >= 200_000 - CHUNK and BODY.startswith(kept)
    server.faults["/a"] = ["ok"]
    fetch([server.url("/a")], target, HASH)
    assert server.seen[-1] == ("/a", f"bytes={len(kept)}-")
    assert target.read_bytes() == BODY and not part.exists()


def test_broken_connections_that_make_progress_use_up_no_try(server, target):
    body = np.random.default_rng(1).bytes(4 * PROGRESS + 5)
    server.files["/a"] = body
    server.faults["/a"] = [("cut", PROGRESS + 2 * CHUNK)]  # for ever: the last piece is short enough
    assert fetch([server.url("/a")], target, None, retries=1, wait=0.01) == hashlib.sha256(body).hexdigest()
    assert target.read_bytes() == body
    assert len(server.seen) == 4


@pytest.mark.parametrize("part", [b"x" * 1000, BODY + b"more"], ids=["corrupt", "too long"])
def test_a_wrong_part_from_an_earlier_run_does_not_stay(server, target, part):
    target.parent.mkdir()
    target.with_name("a.tar.xz.part").write_bytes(part)
    assert fetched(server, target, "/a") == HASH
    assert server.seen == [("/a", f"bytes={len(part)}-"), ("/a", None)]
    assert target.read_bytes() == BODY


def test_without_a_hash_two_mirrors_are_never_mixed(server, target):
    server.files["/b"] = BODY[::-1]
    server.faults["/a"] = [("cut", 300_000)]
    fetch([server.url("/a"), server.url("/b")], target, None, retries=1, wait=0.01)
    assert target.read_bytes() == BODY[::-1]


def test_every_address_is_named_when_none_works(server, target):
    server.faults["/a"] = [404]
    nowhere = "http://127.0.0.1:9/c"
    with pytest.raises(DownloadError) as error:
        fetch([server.url("/a"), nowhere, "not an address"], target, HASH, retries=2, wait=0.01)
    for words in (f"{server.url('/a')}: 404 Not Found", f"{nowhere}: the connection failed", "not an address: "):
        assert words in str(error.value)
    assert "\n" not in str(error.value)


NOT_HTTPS = [
    "http://example.org/a",
    "http://127.0.0.1.example.org/a",
    "http://127.0.0.1:80@example.org/a",
    "http://localhost@example.org/a",
    "ftp://127.0.0.1/a",
    "file:///etc/hostname",
]


@pytest.mark.parametrize("address", NOT_HTTPS)
def test_no_address_but_https_is_asked_also_after_a_redirect(server, target, address):
    with pytest.raises(DownloadError, match=re.escape(f"{address} is not an https address")):
        fetch([address], target, HASH, retries=3, wait=100)
    server.faults["/a"] = [("to", address)]
    with pytest.raises(DownloadError):
        fetch([server.url("/a")], target, HASH, retries=3, wait=100)
    assert (server.seen, left(target)) == ([("/a", None)], [])
    server.faults["/a"] = [("to", server.url("/b"))]
    assert fetched(server, target, "/a") == HASH


def test_every_address_that_the_project_knows_is_https():
    presets_urls = [url for preset in presets.presets().values() for url in (*preset.urls, *preset.category_urls.values())]
    weights_urls = [url for release in published().values() for url in release.urls]
    assert len(presets_urls) > 15 and len(weights_urls) > 5
    assert all(url.startswith("https://") for url in presets_urls + weights_urls)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(server, target, monkeypatch, status):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    server.faults["/a"] = [(status, "7"), (status, "0"), (status, soon), "ok"]
    assert fetched(server, target, "/a") == HASH
    # Where nothing is asked for: the second pause of the back-off, 0.01 * 2 and the jitter.
    assert pauses[0] == 7 and 0.02 <= pauses[1] <= 0.03 and 240 < pauses[2] <= 300


def test_a_complete_part_is_only_checked(server, target):
    target.parent.mkdir()
    part = target.with_name("a.tar.xz.part")
    part.write_bytes(BODY)
    assert fetch([server.url("/a")], target, HASH, size=len(BODY)) == HASH
    assert server.seen == []
    target.rename(part)
    assert fetch([server.url("/a")], target, HASH) == HASH  # size unknown: the server says that there is no more (416)
    assert server.seen == [("/a", f"bytes={len(BODY)}-")]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(("free", "enough"), [(600_000, True), (599_999, False)])
def test_free_space_is_checked_before_the_first_byte(server, target, monkeypatch, free, enough):
    monkeypatch.setattr("shutil.disk_usage", lambda path: namedtuple("Usage", "free")(free))
    if enough:
        fetch([server.url("/a"), server.url("/b")], target, HASH, reserve=100_000)
    else:
        with pytest.raises(FileError, match=f"600 kB in {target.parent}"):
            fetch([server.url("/a"), server.url("/b")], target, HASH, reserve=100_000)
        assert left(target) == []
    assert len(server.seen) == 1  # another mirror would not make room
