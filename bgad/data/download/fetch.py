"""Fetch a large file over a bad connection, https only: resume, try again, try elsewhere, and trust only the hash."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bgad.errors import FileError
from bgad.progress import progress

if TYPE_CHECKING:
    import requests
    from tenacity import RetryCallState

TIMEOUT = (15, 60)  # seconds to connect, and to wait for the next bytes
CHUNK = 1 << 16  # bytes; small, since a broken connection loses a chunk
PROGRESS = 1 << 20  # bytes; a broken try that fetched as many is resumed at once and does not count as failed
MOST = 50 * 10**9  # bytes of a file of unknown size; ten times MVTec AD's archive
LONGEST_PAUSE = 600.0  # seconds; a server that asks for more is skipped
THIS_MACHINE = ("127.0.0.1", "::1", "localhost")  # no one can listen in between


class DownloadError(FileError):
    """No address gave the file. ``tried`` names each address and what went wrong there."""

    def __init__(self, message: str, tried: str):
        super().__init__(message)
        self.tried = tried


def fetch(
    urls: list[str],
    target: Path,
    sha256: str | None,
    size: int | None = None,
    retries: int = 5,
    wait: float = 1.0,
    reserve: int = 0,
) -> str:
    """Downloads ``target`` from the first of ``urls`` that gives it, and returns its SHA-256 (hex).

    A partial download stays in ``<target>.part`` and is resumed, also by a later run. Each address gets ``retries`` tries, with
    pauses that start at about ``wait`` seconds and double (up to a minute, or to what the server asks for). Bytes with another
    hash than ``sha256`` are deleted and fetched again. ``size`` is the expected number of bytes, and ``reserve`` the number
    that must stay free on the disk afterwards. An existing ``target`` is only checked.

    DownloadError if no address gives the file; FileError if the disk is too small, or if an existing ``target`` has another
    hash (it is kept: it may have cost its owner a night).
    """
    if target.exists():
        digest = sha256_of(target)
        if sha256 not in (None, digest):
            raise FileError(f"{target}: has the SHA-256 {digest} instead of {sha256}; delete it to download it again.")
        return digest
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    backoff = wait_exponential(multiplier=wait, max=60) + wait_random(0, wait)
    failures: list[str] = []
    for url in urls:
        if failures and sha256 is None:
            part.unlink(missing_ok=True)  # without a hash, a mix of two files would pass for the right one
        tries = Retrying(
            stop=stop_after_attempt(retries),
            wait=lambda state: max(_failure(state).pause, backoff(state)),
            retry=retry_if_exception_type(_Passing),
            before_sleep=lambda state: _say(f"{target.name}: {_failure(state)}; next try in {state.upcoming_sleep:.0f} s"),
            reraise=True,
        )
        try:
            digest = tries(_try, url, part, sha256, size, reserve)
        except (_Passing, _Lasting) as error:
            failures.append(f"{url}: {error}")
        else:
            part.replace(target)
            return digest
    tried = "; ".join(failures)
    raise DownloadError(f"{target}: could not be downloaded ({tried}); run again, or put the file there by hand.", tried)


def check_https(url: str) -> None:
    """ValueError for an address that is not https, unless it is on this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in THIS_MACHINE):
        raise ValueError(f"{url} is not an https address")


def check_space(folder: Path, needed: int, purpose: str) -> None:
    """FileError unless ``needed`` bytes are free on the disk of ``folder``, which must exist."""
    if needed > (free := shutil.disk_usage(folder).free):
        room = f"{readable_size(needed)} in {folder}, but {readable_size(free)} are free"
        raise FileError(f"{purpose} needs {room}; make room there, or link that folder to a larger disk.")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def readable_size(number: float) -> str:
    """A number of bytes for people, in decimal units: 5264982680 is "5.3 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


class _Passing(Exception):
    """A failure worth another try at the same address, after at least ``pause`` seconds."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.pause = pause


def _failure(state: RetryCallState) -> _Passing:
    """The failure of the last try."""
    failure = state.outcome and state.outcome.exception()
    assert isinstance(failure, _Passing)  # others are not tried again
    return failure


class _Lasting(Exception):
    """A failure that another try will not fix."""


def _try(url: str, part: Path, sha256: str | None, size: int | None, reserve: int) -> str:
    """Fetches the rest of ``part`` and returns its hash."""
    while True:
        before = _length(part)
        try:
            _request(url, part, size, reserve)
            break
        except _Passing as failure:
            if _length(part) - before < PROGRESS:
                raise
            _say(f"{part.stem}: {failure}; resuming")
    digest = sha256_of(part)
    if sha256 not in (None, digest):
        part.unlink()
        raise _Passing(f"the file has the SHA-256 {digest} instead of {sha256}")
    return digest


def _request(url: str, part: Path, size: int | None, reserve: int) -> None:
    """One request: appends the missing bytes to ``part``, or starts over if the server cannot resume."""
    import requests  # a step whose files exist loads no network library
    import urllib3

    offset = _length(part)
    if size is not None and offset == size:
        return
    # identity: bytes as they are stored, or neither hash nor offset would mean anything
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        check_https(url)
        with _session() as session, session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            start, total = _range_of(response, offset)
            if start is None:
                part.unlink()
                raise _Passing(f"cannot resume from byte {offset}")
            if size is not None and total not in (None, size):
                raise _Passing(f"offers {total} bytes instead of {size}")
            if start == total:
                return
            missing = max(0, (total or size or 0) - offset)
            check_space(part.parent, missing + reserve, f"Downloading {part.stem} (and unpacking it)")
            _write(response, part, start, size or total)
    except ValueError as error:  # from check_https, or a malformed address, which is a RequestException as well
        raise _Lasting(str(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Passing(f"the connection failed at byte {_length(part)} ({type(error).__name__})") from error
    except OSError as error:
        raise FileError(f"{part}: cannot be written ({error.strerror}); make room, or make it writable.") from error
    if size is not None and _length(part) != size:
        raise _Passing(f"ended after {_length(part)} bytes instead of {size}")


def _session() -> requests.Session:
    """A session that sends requests, also after redirects, to https addresses only."""
    import requests

    class Checked(requests.adapters.HTTPAdapter):
        def send(self, request, *arguments, **options):
            check_https(request.url)
            return super().send(request, *arguments, **options)

    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, Checked())
    return session


def _write(response: requests.Response, part: Path, start: int, total: int | None) -> None:
    with (
        part.open("ab" if start else "wb") as file,
        progress(f"{part.stem} (MB)", total and total / 1e6, done=start / 1e6) as advance,
    ):
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            start += len(chunk)
            if start > (total or MOST):
                part.unlink()
                raise _Lasting(f"sends more than {readable_size(total or MOST)}")
            file.write(chunk)
            advance(len(chunk) / 1e6)


def _range_of(response: requests.Response, offset: int) -> tuple[int | None, int | None]:
    """The offset of the response's bytes (None: it cannot resume from ``offset``), and the file's length if known."""
    status = response.status_code
    problem = f"{status} {response.reason}"
    if status in (408, 425, 429) or status >= 500:
        pause = _retry_after(response)
        if pause > LONGEST_PAUSE:
            raise _Lasting(f"{problem}, asks to wait {pause:.0f} s")
        raise _Passing(problem, pause)
    content_range = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    total = int(content_range[2]) if content_range and content_range[2] != "*" else None
    if status == 416 and offset:  # no more bytes: the part is complete, or of another file
        return (offset, total) if total == offset else (None, None)
    if status == 206 and offset:
        return (offset, total) if content_range and content_range[1] == str(offset) else (None, None)
    if status != 200:
        raise _Lasting(problem)
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _Lasting("sends a web page instead of the file")
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _retry_after(response: requests.Response) -> float:
    """The seconds that the server asks to wait, from a number or a date; else 0."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
