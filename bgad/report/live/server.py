"""A local server for a suite's page: it updates the page as cells finish and shows the suite's progress above it.

    /             the status and, below it, the page in a frame
    /report.html  the latest page
    /status.json  the status

It listens on this machine only, serves nothing else and writes nothing. It refuses requests that name another host, because a
foreign web page could make a browser send them.
"""

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jinja2

from bgad.config.cells import Cell
from bgad.errors import BgadError, ConfigError
from bgad.report.collect import DONE
from bgad.report.live.status import QUEUED, RUNNING, Status, status_of

LOOPBACK = "127.0.0.1"
HOSTS = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)  # any port: that of an SSH tunnel may differ
LOOK = 1.0  # seconds between looks at the files
APART = 10.0  # seconds between two pages, at least: a large suite's takes that long to make
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; frame-src 'self'; frame-ancestors 'self'"
)


class Live:
    """Status and page of a suite. A thread makes the page; the previous one is served until the next is complete."""

    def __init__(self, cells: list[Cell], make_page: Callable[[Status], str], root: Path = Path(), apart: float = APART):
        self.cells, self.make_page, self.root, self.apart = cells, make_page, root, apart
        self.page: tuple[str, bytes] | None = None  # its version and content
        self.page_error: str | None = None
        self._status, self._looked = status_of(cells, root), time.monotonic()
        self._one_looks, self._end = threading.Lock(), threading.Event()

    def __enter__(self) -> "Live":
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()

    def status(self) -> Status:
        """At most LOOK seconds old."""
        with self._one_looks:
            if time.monotonic() - self._looked >= LOOK:
                self._status, self._looked = status_of(self.cells, self.root), time.monotonic()
            return self._status

    def as_json(self) -> dict:
        return {**self.status().as_json(self.root), "page": self.page and self.page[0], "page_error": self.page_error}

    def _run(self) -> None:
        of_page, wait = None, 0.0
        while not self._end.wait(wait):
            wait = LOOK
            try:
                status = self.status()
                shown = self._shown(status)
                if shown != of_page:
                    wait = self.apart
                    content = self.make_page(status).encode()
                    self.page, of_page = (hashlib.sha256(content).hexdigest()[:16], content), shown
                self.page_error = None
            except (BgadError, OSError) as error:  # perhaps a file that is just being replaced: the next look may succeed
                self.page_error = str(error)

    def _shown(self, status: Status) -> dict:
        """What a page depends on: a queued cell that starts to run changes nothing."""
        shown = {}
        for cell, state in status.states.items():
            path = self.root / cell.folder / "metrics.json"
            done = state == DONE and path.exists()  # unless it was removed since the status was taken
            shown[cell] = path.stat().st_mtime_ns if done else QUEUED if state == RUNNING else state
        return shown


def serve(live: Live, title: str, port: int = 0) -> ThreadingHTTPServer:
    """A server of ``live`` on ``port`` of the loopback address (0: a free one); call its ``serve_forever``. ConfigError if the
    port is taken."""
    template = Path(__file__).with_name("live.html").read_text(encoding="utf-8")
    shell = jinja2.Environment(autoescape=True).from_string(template).render(title=title).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if not HOSTS.fullmatch(self.headers.get("Host", "")):
                self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"This address serves this machine only.\n")
                return
            match self.path.partition("?")[0]:
                case "/":
                    self._answer(HTTPStatus.OK, "text/html", shell)
                case "/status.json":
                    self._answer(HTTPStatus.OK, "application/json", json.dumps(live.as_json(), allow_nan=False).encode())
                case "/report.html" if live.page:
                    self._answer(HTTPStatus.OK, "text/html", live.page[1])
                case "/report.html":
                    self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"The page is not ready yet.\n")
                case _:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"Not found.\n")

        def refuse(self):
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"Only GET is allowed.\n")

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = refuse

        def _answer(self, status, kind, content):
            self.send_response(status)
            headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content)), "Allow": "GET"}
            safety = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
            for name, value in (headers | safety).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    try:
        return _Server((LOOPBACK, port), Handler)
    except OSError as error:
        raise ConfigError(f"--port {port}: cannot be used ({error.strerror}); choose another, or leave it out.") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # the browser went away
            super().handle_error(request, client_address)
