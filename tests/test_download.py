"""Downloads from a local server that misbehaves in every way a real one does, and archives that play tricks."""

import hashlib
import io
import re
import tarfile
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bgad.data.download import dataset as download
from bgad.data.download import presets
from bgad.data.download.dataset import check_counts, download_dataset
from bgad.data.download.fetch import CHUNK, PROGRESS, DownloadError, fetch
from bgad.data.download.presets import Preset
from bgad.data.download.unpack import unpack
from bgad.errors import BgadError
from bgad.features.weights import published

BODY = np.random.default_rng(0).bytes(500_000)
HASH = hashlib.sha256(BODY).hexdigest()
Request = namedtuple("Request", "path range")


class Server(ThreadingHTTPServer):
    """Serves ``files`` by path. ``faults[path]`` lists what goes wrong with each request in turn, the last for ever:

    "ok"; ("cut", n): the connection breaks after n bytes; ("truncate", n): n bytes are passed off as all; ("no length",
    n): the same without a Content-Length; "corrupt": a byte is wrong; "no ranges": Range is ignored; ("shift", n): the
    range starts n bytes late; "page": a web page; ("to", address): a redirect; a status, or (status, Retry-After).
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list] = {}
        self.seen: list[Request] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.seen.append(Request(self.path, self.headers["Range"]))
        faults = server.faults.get(self.path, ["ok"])
        kind, *values = fault if isinstance(fault := faults.pop(0) if len(faults) > 1 else faults[0], tuple) else (fault,)
        if isinstance(kind, int) or self.path not in server.files:
            after = {"Retry-After": values[0]} if values else {}
            return self.answer(kind if isinstance(kind, int) else 404, b"no", after)
        if kind == "to":
            return self.answer(302, b"", {"Location": values[0]})
        if kind == "page":
            return self.answer(200, b"<html>please log in</html>", {"Content-Type": "text/html; charset=utf-8"})
        body = server.files[self.path]
        status, start, headers = 200, 0, {}
        if self.headers["Range"] and kind != "no ranges":
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) + (values[0] if kind == "shift" else 0)
            if start >= len(body):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            status, headers = 206, {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        rest = body[start:]
        if kind == "corrupt":
            rest = rest[:1000] + bytes([rest[1000] ^ 1]) + rest[1001:]
        if kind in ("truncate", "no length"):
            rest = rest[: values[0]]
        if kind == "no length":
            headers["Content-Length"] = None
        self.answer(status, rest, headers, stop_after=values[0] if kind == "cut" else None)

    def answer(self, status: int, body: bytes, headers: dict, stop_after: int | None = None):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body[:stop_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.files = {"/a": BODY, "/b": BODY}
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "a.tar.xz"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


# --- fetch --------------------------------------------------------------------------------------------------


def test_fetch_from_a_good_server(server, target):
    assert fetch([server.url("/a"), server.url("/b")], target, HASH, size=len(BODY)) == HASH
    assert target.read_bytes() == BODY
    assert server.seen == [("/a", None)]
    assert left(target) == ["a.tar.xz"]


def test_a_cut_connection_is_resumed_where_it_broke(server, target, monkeypatch):
    server.faults["/a"] = [("cut", 300_000), "ok"]
    kept = []
    say = lambda line: kept.append(target.with_name("a.tar.xz.part").stat().st_size)  # noqa: E731
    monkeypatch.setattr("bgad.data.download.fetch._say", say)
    assert fetch([server.url("/a")], target, HASH, wait=0.01) == HASH
    assert target.read_bytes() == BODY
    assert 300_000 - CHUNK <= kept[0] <= 300_000
    assert server.seen == [("/a", None), ("/a", f"bytes={kept[0]}-")]


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


def test_cuts_that_still_bring_the_file_forward_use_up_no_try(server, target):
    body = np.random.default_rng(1).bytes(4 * PROGRESS + 5)
    server.files["/a"] = body
    server.faults["/a"] = [("cut", PROGRESS + 2 * CHUNK)]  # for ever: the last piece is short enough to come whole
    assert fetch([server.url("/a")], target, None, retries=1, wait=0.01) == hashlib.sha256(body).hexdigest()
    assert target.read_bytes() == body
    assert len(server.seen) == 4


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, target):
    server.faults["/a"] = [("cut", 300_000), "no ranges"]
    assert fetch([server.url("/a")], target, HASH, wait=0.01) == HASH
    assert target.read_bytes() == BODY
    assert server.seen[1].range is not None and len(server.seen) == 2


def test_a_range_that_starts_elsewhere_is_not_appended(server, target):
    server.faults["/a"] = [("cut", 300_000), ("shift", 7), "ok"]
    assert fetch([server.url("/a")], target, None, wait=0.01) == HASH
    assert [request.range is None for request in server.seen] == [True, False, True]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(("sha256", "size"), [(HASH, None), (None, len(BODY)), (HASH, len(BODY))])
def test_a_server_that_always_truncates_is_given_up(server, target, sha256, size):
    server.faults["/a"] = [("truncate", 100_000)]
    with pytest.raises(DownloadError) as error:
        fetch([server.url("/a")], target, sha256, size, retries=3, wait=0.01)
    assert server.url("/a") in str(error.value) and str(target) in str(error.value)
    assert len(server.seen) == 3
    assert left(target) == []  # too short by its own account: not even begun, or thrown away


def test_the_size_tells_a_short_file_where_the_server_does_not(server, target):
    server.faults["/a"] = [("no length", 100_000), "ok"]
    assert fetch([server.url("/a")], target, None, len(BODY), wait=0.01) == HASH
    assert server.seen == [("/a", None), ("/a", "bytes=100000-")]


def test_a_truncated_file_is_completed_by_the_next_mirror(server, target):
    server.faults["/a"] = [("truncate", 100_000)]
    assert fetch([server.url("/a"), server.url("/b")], target, HASH, retries=2, wait=0.01) == HASH
    assert target.read_bytes() == BODY
    assert [request.path for request in server.seen] == ["/a", "/a", "/b"]


def test_corrupt_bytes_are_thrown_away_and_fetched_again(server, target):
    server.faults["/a"] = ["corrupt", "ok"]
    assert fetch([server.url("/a")], target, HASH, wait=0.01) == HASH
    assert server.seen == [("/a", None), ("/a", None)]
    assert target.read_bytes() == BODY


def test_bytes_that_stay_corrupt_leave_nothing(server, target):
    server.faults["/a"] = ["corrupt"]
    with pytest.raises(DownloadError, match=f"instead of {HASH}"):
        fetch([server.url("/a")], target, HASH, retries=2, wait=0.01)
    assert left(target) == []


def test_a_corrupt_start_from_an_earlier_run_does_not_stay(server, target):
    target.parent.mkdir()
    target.with_name("a.tar.xz.part").write_bytes(b"x" * 1000)
    assert fetch([server.url("/a")], target, HASH, wait=0.01) == HASH
    assert server.seen == [("/a", "bytes=1000-"), ("/a", None)]


def test_404_goes_to_the_mirror_at_once(server, target):
    server.faults["/a"] = [404]
    assert fetch([server.url("/a"), server.url("/b")], target, HASH, wait=0.01) == HASH
    assert server.seen == [("/a", None), ("/b", None)]


def test_a_web_page_is_not_taken_for_an_archive(server, target):
    server.faults["/a"] = ["page"]
    fetch([server.url("/a"), server.url("/b")], target, None, wait=0.01)
    assert target.read_bytes() == BODY
    assert [request.path for request in server.seen] == ["/a", "/b"]


@pytest.mark.parametrize("size", [None, 1000])
def test_a_server_that_never_ends_is_cut_off(server, target, monkeypatch, size):
    monkeypatch.setattr("bgad.data.download.fetch.MOST", 1000)
    server.faults["/a"] = [("no length", len(BODY))]
    with pytest.raises(DownloadError, match="sends more than 1 kB"):
        fetch([server.url("/a")], target, sha256=None, size=size, wait=0.01)
    assert len(server.seen) == 1
    assert left(target) == []


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
def test_no_address_but_https_is_asked(target, address):
    with pytest.raises(DownloadError, match=re.escape(f"{address} is not an https address")):
        fetch([address], target, HASH, retries=3, wait=100)
    assert left(target) == []


@pytest.mark.parametrize("address", NOT_HTTPS)
def test_no_redirect_leads_away_from_https(server, target, address):
    server.faults["/a"] = [("to", address)]
    with pytest.raises(DownloadError):
        fetch([server.url("/a")], target, HASH, retries=3, wait=100)
    assert (server.seen, left(target)) == ([("/a", None)], [])
    server.faults["/a"] = [("to", server.url("/b"))]
    fetch([server.url("/a")], target, HASH)
    assert left(target) == ["a.tar.xz"]


def test_every_address_that_the_project_knows_is_https():
    presets_urls = [url for preset in presets.presets().values() for url in (*preset.urls, *preset.category_urls.values())]
    weights_urls = [url for release in published().values() for url in release.urls]
    assert len(presets_urls) > 15 and len(weights_urls) > 5
    assert all(url.startswith("https://") for url in presets_urls + weights_urls)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(server, target, monkeypatch, status):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.faults["/a"] = [(status, "7"), (status, "0"), "ok"]
    assert fetch([server.url("/a")], target, HASH, wait=0.01) == HASH
    assert len(server.seen) == 3
    assert pauses[0] == 7
    assert 0.02 <= pauses[1] <= 0.03  # nothing asked for: the second pause of the back-off, 0.01 * 2 and the jitter


def test_retry_after_as_a_date(server, target, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    soon = datetime.now(UTC) + timedelta(seconds=300)
    server.faults["/a"] = [(429, format_datetime(soon, usegmt=True)), "ok"]
    fetch([server.url("/a")], target, HASH, wait=0.01)
    assert 240 < pauses[0] <= 300


def test_a_server_that_asks_for_an_hour_is_passed_over(server, target, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    server.faults["/a"] = [(429, "3600")]
    assert fetch([server.url("/a"), server.url("/b")], target, HASH) == HASH
    assert [request.path for request in server.seen] == ["/a", "/b"]


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


def test_a_part_longer_than_the_file_is_dropped(server, target):
    target.parent.mkdir()
    target.with_name("a.tar.xz.part").write_bytes(BODY + b"more")
    assert fetch([server.url("/a")], target, HASH, wait=0.01) == HASH
    assert target.read_bytes() == BODY


def test_a_file_that_is_there_is_checked_and_kept(server, target):
    target.parent.mkdir()
    target.write_bytes(b"something else")
    with pytest.raises(BgadError, match=f"{target} has the SHA-256 .* instead of {HASH}: delete it"):
        fetch([server.url("/a")], target, HASH)
    assert target.read_bytes() == b"something else"
    target.write_bytes(BODY)
    assert fetch([server.url("/a")], target, HASH) == HASH
    assert server.seen == []


@pytest.mark.parametrize(("free", "enough"), [(600_000, True), (599_999, False)])
def test_free_space_is_checked_before_the_first_byte(server, target, monkeypatch, free, enough):
    monkeypatch.setattr("shutil.disk_usage", lambda path: namedtuple("Usage", "free")(free))
    if enough:
        fetch([server.url("/a"), server.url("/b")], target, HASH, reserve=100_000)
    else:
        with pytest.raises(BgadError, match=r"needs 600 kB in .*: make room"):
            fetch([server.url("/a"), server.url("/b")], target, HASH, reserve=100_000)
        assert left(target) == []
    assert len(server.seen) == 1  # another mirror would not make room


# --- unpack -------------------------------------------------------------------------------------------------


def make_tar(path: Path, files: dict[str, bytes] | None = None, members: list[tarfile.TarInfo] = ()) -> Path:
    with tarfile.open(path, {".xz": "w:xz", ".gz": "w:gz"}.get(path.suffix, "w")) as tar:
        for name, content in (files or {}).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def make(path: Path, files: dict[str, bytes]) -> Path:
    return make_zip(path, files) if path.suffix == ".zip" else make_tar(path, files)


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


FILES = {"bottle/train/good/000.png": b"one", "bottle/test/good/000.png": b"two", "cable/train/good/000.png": b"three"}


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz", ".zip"])
@pytest.mark.parametrize("around", ["", "BTech_Dataset_transformed/"])
def test_unpack_gives_the_categories(tmp_path, ending, around):
    archive = make(tmp_path / f"x{ending}", {around + name: content for name, content in FILES.items()})
    unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", archive.name]


def test_the_archive_of_one_category_keeps_its_folder(tmp_path):
    unpack(make_tar(tmp_path / "x.tar.xz", {"bottle/train/good/000.png": b"one"}), tmp_path / "out")
    assert tree(tmp_path / "out") == {"bottle/train/good/000.png": b"one"}


TRICKS = {
    "up": ({"../evil": b"x"}, []),
    "up, from inside": ({"bottle/../../evil": b"x"}, []),
    "absolute": ({"{tmp}/evil": b"x"}, []),
    "backslashes": ({"..\\evil": b"x"}, []),
    "drive": ({"C:/evil": b"x"}, []),
    "symlink outside": ({}, [link("out", "../..")]),
    "absolute symlink": ({}, [link("out", "{tmp}")]),
    "symlink, then through it": ({}, [link("out", "{tmp}"), tarfile.TarInfo("out/evil")]),
    "hard link outside": ({}, [link("secret", "../secret", tarfile.LNKTYPE)]),
    "absolute hard link": ({}, [link("secret", "{tmp}/secret", tarfile.LNKTYPE)]),
    "device": ({}, [link("null", "", tarfile.CHRTYPE)]),
    "pipe": ({}, [link("pipe", "", tarfile.FIFOTYPE)]),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tar_tricks_are_refused(tmp_path, trick):
    (tmp_path / "secret").write_text("secret")
    fill = lambda text: text.replace("{tmp}", str(tmp_path))  # noqa: E731
    files, members = TRICKS[trick]
    files = {"bottle/train/good/000.png": b"one"} | {fill(name): content for name, content in files.items()}
    members = [member.replace(name=fill(member.name), linkname=fill(member.linkname)) for member in members]
    archive = make_tar(tmp_path / "x.tar", files, members)
    with pytest.raises(BgadError, match="may reach outside its folder"):
        unpack(archive, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "x.tar"]


def test_links_that_stay_inside_are_fine(tmp_path):
    members = [link("bottle/same.png", "bottle/train/a.png", tarfile.LNKTYPE), link("bottle/soft.png", "train/a.png")]
    unpack(make_tar(tmp_path / "x.tar", {"bottle/train/a.png": b"one"}, members), tmp_path / "out")
    assert (tmp_path / "out/bottle/same.png").read_bytes() == (tmp_path / "out/bottle/soft.png").read_bytes() == b"one"


@pytest.mark.parametrize("name", ["../evil", "/evil", "bottle/../../evil", "..\\evil"])
def test_zip_tricks_are_refused(tmp_path, name):
    archive = make_zip(tmp_path / "x.zip", {"bottle/train/good/000.png": b"one", name: b"x"})
    with pytest.raises(BgadError, match="may reach outside its folder"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("out")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(info, "/etc")
    with pytest.raises(BgadError, match="'out', which may reach outside"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize("ending", [".tar", ".zip"])
def test_archive_bombs_are_refused(tmp_path, ending):
    archive = make(tmp_path / f"x{ending}", {f"bottle/train/{i}.png": b"12345" for i in range(10)})
    for limits in ({"max_files": 9}, {"max_bytes": 49}):
        with pytest.raises(BgadError, match="holds more than"):
            unpack(archive, tmp_path / "out", **limits)
        assert [path.name for path in tmp_path.iterdir()] == [archive.name]
    unpack(archive, tmp_path / "out", max_files=10, max_bytes=50)
    assert len(tree(tmp_path / "out")) == 10


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz", ".zip"])
@pytest.mark.parametrize("damage", ["cut", "not an archive", "empty"])
def test_a_damaged_archive_leaves_nothing(tmp_path, ending, damage):
    archive = make(tmp_path / f"x{ending}", {"bottle/train/a.png": BODY})
    content = archive.read_bytes()
    archive.write_bytes({"cut": content[: len(content) // 2], "not an archive": b"<html>" * 1000, "empty": b""}[damage])
    with pytest.raises(BgadError, match=r"cannot be unpacked \(.+\): delete it") as error:
        unpack(archive, tmp_path / "out")
    assert "\n" not in str(error.value) and str(archive) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


def test_a_link_to_nothing_and_a_flipped_bit_are_damage(tmp_path):
    dangling = make_tar(tmp_path / "x.tar", members=[link("a.png", "gone.png", tarfile.LNKTYPE)])
    flipped = make_zip(tmp_path / "x.zip", {"bottle/train/a.png": BODY})
    content = bytearray(flipped.read_bytes())
    content[1000] ^= 1
    flipped.write_bytes(content)
    for archive in (dangling, flipped):
        with pytest.raises(BgadError, match="cannot be unpacked"):
            unpack(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_unpack_checks_the_space_and_never_mixes_into_a_folder(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "x.zip", {"bottle/train/a.png": b"0" * 300_000})  # packed, it is far smaller
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: namedtuple("Usage", "free")(299_999))
        with pytest.raises(BgadError, match="needs 300 kB in"):
            unpack(archive, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(BgadError, match="is not empty"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


# --- counts and presets -------------------------------------------------------------------------------------

COUNTS = {"bottle": {"train": 2, "good": 1, "crack": 2}, "cable": {"train": 1, "good": 1, "bent": 1}}


def image_files(counts: dict, normal: str = "good") -> dict[str, bytes]:
    files = {}
    for category, numbers in counts.items():
        for key, number in numbers.items():
            folders = {"train": [f"train/{normal}"], "good": [f"test/{normal}"]}.get(key)
            for folder in folders or [f"test/{key}", f"ground_truth/{key}"]:
                mask = "_mask" if folder.startswith("ground") and normal == "good" else ""
                for i in range(number):
                    files[f"{category}/{folder}/{i:03}{mask}.png"] = f"{category} {folder} {i}".encode()
    return files


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_check_counts_names_every_difference(tmp_path):
    write(tmp_path, image_files(COUNTS))
    assert check_counts(tmp_path, COUNTS) == []
    write(tmp_path / "bottle", {"train/good/Thumbs.db": b"", "train/good/.000.png": b""})  # no images
    assert check_counts(tmp_path, COUNTS) == []

    (tmp_path / "bottle/train/good/000.png").unlink()
    (tmp_path / "bottle/ground_truth/crack/001_mask.png").unlink()
    write(tmp_path, {"bottle/test/good/x.PNG": b"", "bottle/test/scratch/0.png": b""})
    (tmp_path / "cable/test/bent/000.png").unlink()
    (tmp_path / "cable/test/bent").rmdir()
    more = COUNTS | {"wood": {"train": 1, "good": 1}}
    assert check_counts(tmp_path, more) == [
        "bottle/train/good has 1 images instead of 2",
        "bottle/test/good has 2 images instead of 1",
        "bottle/ground_truth/crack has 1 masks instead of 2",
        "bottle/test/scratch should not be there",
        "cable/test/bent is missing",
        "wood is missing",
    ]


def test_check_counts_in_the_btad_layout(tmp_path):
    counts = {"01": {"train": 2, "good": 1, "ko": 3}}
    write(tmp_path, image_files(counts, normal="ok"))
    assert check_counts(tmp_path, counts, "btad") == []
    (tmp_path / "01/test/ko/002.png").unlink()
    assert check_counts(tmp_path, counts, "btad") == ["01/test/ko has 2 images instead of 3"]


def test_presets_add_up_to_the_published_totals():
    def totals(preset: Preset) -> list[int]:
        rows = preset.counts.values()
        train, good = (sum(row[key] for row in rows) for key in ("train", "good"))
        return [train, good, sum(sum(row.values()) for row in rows) - train - good]

    mvtec, btad = presets.dataset("mvtec"), presets.dataset("btad")
    assert totals(mvtec) == [3629, 467, 1258]  # Bergmann et al., table 1: 5354 images, 73 defect types
    assert sum(len(row) - 2 for row in mvtec.counts.values()) == 73
    assert totals(btad) == [1799, 451, 290]
    assert mvtec.counts.keys() == mvtec.category_urls.keys() and len(mvtec.counts) == 15
    assert mvtec.textures | mvtec.grayscale < mvtec.counts.keys()
    for category, url in mvtec.category_urls.items():
        assert url.startswith("https://") and url.endswith(f"/{category}.tar.xz")
    assert all(len(bytes.fromhex(preset.sha256)) == 32 for preset in (mvtec, btad))
    assert presets.dataset("mine") is None


# --- the whole way ------------------------------------------------------------------------------------------


@pytest.fixture
def known(server, tmp_path, monkeypatch) -> Preset:
    """A data set "mvtec" of two categories on the server, as a whole and by category."""
    files = image_files(COUNTS)
    whole = make_tar(tmp_path / "whole.tar.xz", files).read_bytes()
    server.files = {"/mvtec.tar.xz": whole}
    for category in COUNTS:
        own = {name: content for name, content in files.items() if name.startswith(category)}
        server.files[f"/{category}.tar.xz"] = make_tar(tmp_path / "one.tar.xz", own).read_bytes()
    preset = Preset(
        layout="mvtec",
        licence="licensed under X",
        landing_page="http://landing",
        urls=[server.url("/mvtec.tar.xz")],
        sha256=hashlib.sha256(whole).hexdigest(),
        size_bytes=len(whole),
        category_urls={category: server.url(f"/{category}.tar.xz") for category in COUNTS},
        grayscale=[],
        textures=[],
        counts=COUNTS,
    )
    monkeypatch.setattr(download, "dataset", {"mvtec": preset}.get)
    return preset


def test_download_dataset(server, known, tmp_path, capsys):
    root, archives = tmp_path / "data" / "mvtec", tmp_path / "archives"
    write(root.parent, {"mvtec.staging/wood/train/good/000.png": b"left by a run that was killed"})
    download_dataset("mvtec", root, archives)
    assert tree(root) == image_files(COUNTS)
    assert [path.name for path in archives.iterdir()] == ["mvtec.tar.xz"]
    assert [path.name for path in root.parent.iterdir()] == ["mvtec"]
    assert capsys.readouterr().err == "licensed under X (http://landing).\n"

    download_dataset("mvtec", root, archives)  # all is there
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(BgadError, match=r"bottle/train/good has 0 images .* and 5 more\): delete it .* datasets.mvtec.path"):
        download_dataset("mvtec", root, archives)
    root.rename(tmp_path / "away")
    root.mkdir()
    download_dataset("mvtec", root, archives)  # from the archive that is there
    assert tree(root) == image_files(COUNTS)
    assert len(server.seen) == 1
    assert capsys.readouterr().err == ""


def test_categories_are_the_second_way(server, known, tmp_path, capsys):
    root, archives = tmp_path / "mvtec", tmp_path / "archives"
    server.faults["/mvtec.tar.xz"] = [404]
    download_dataset("mvtec", root, archives, wait=0.01)
    assert tree(root) == image_files(COUNTS)
    assert [request.path for request in server.seen] == ["/mvtec.tar.xz", "/bottle.tar.xz", "/cable.tar.xz"]
    assert capsys.readouterr().err.count("licensed under X") == 1
    bottle = server.files["/bottle.tar.xz"]
    record = f"{hashlib.sha256(bottle).hexdigest()}  bottle.tar.xz\n"
    assert (archives / "bottle.sha256").read_text() == record

    root.rename(tmp_path / "away")
    download_dataset("mvtec", root, archives, wait=0.01)  # the archives that are there do: nothing is asked for
    assert tree(root) == image_files(COUNTS) and len(server.seen) == 3

    root.rename(tmp_path / "away too")
    (archives / "bottle.tar.xz").write_bytes(bottle + b"tampered")
    with pytest.raises(BgadError, match=r"bottle.tar.xz has the SHA-256 .* delete it"):
        download_dataset("mvtec", root, archives, wait=0.01)
    assert not root.exists()


def test_a_category_that_proves_bad_is_not_recorded(server, known, tmp_path):
    root, archives = tmp_path / "mvtec", tmp_path / "archives"
    server.faults["/mvtec.tar.xz"] = [404]
    good = server.files["/cable.tar.xz"]
    server.files["/cable.tar.xz"] = good[:-40]
    with pytest.raises(BgadError, match=r"cable\.tar\.xz cannot be unpacked"):
        download_dataset("mvtec", root, archives, wait=0.01)
    assert sorted(path.name for path in archives.iterdir()) == ["bottle.tar.xz", "cable.tar.xz"]
    assert not list(tmp_path.glob("mvtec*"))


def test_when_nothing_works_every_address_is_named(server, known, tmp_path):
    server.faults = {"/mvtec.tar.xz": [404], "/bottle.tar.xz": ["ok"], "/cable.tar.xz": [403]}
    with pytest.raises(DownloadError) as error:
        download_dataset("mvtec", tmp_path / "mvtec", tmp_path / "archives", wait=0.01)
    for words in (server.url("/mvtec.tar.xz"), server.url("/cable.tar.xz"), "403", "set datasets.mvtec.path to a copy"):
        assert words in str(error.value)
    assert not (tmp_path / "mvtec").exists()


def test_an_archive_that_lacks_images_makes_no_data_set(server, known, tmp_path, monkeypatch):
    more = known.model_copy(update={"counts": COUNTS | {"wood": {"train": 1, "good": 1}}})
    monkeypatch.setattr(download, "dataset", {"mvtec": more}.get)
    with pytest.raises(BgadError, match=r"mvtec.tar.xz is not whole \(wood is missing\): set datasets.mvtec.path"):
        download_dataset("mvtec", tmp_path / "mvtec", tmp_path / "archives")
    assert not list(tmp_path.glob("mvtec*"))


def test_a_data_set_of_ones_own_has_no_download(tmp_path):
    with pytest.raises(BgadError, match=r"no download for the data set 'mine': set datasets.mine.path"):
        download_dataset("mine", tmp_path / "mine", tmp_path / "archives")
