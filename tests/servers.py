"""A local server that misbehaves in every way a real one does."""

import hashlib
import re
import threading
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

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

    def __init__(self, handler: type):
        super().__init__(("127.0.0.1", 0), handler)
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


@contextmanager
def serving(handler: type = Handler) -> Iterator[Server]:
    """A running server with ``BODY`` at /a and /b."""
    server = Server(handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.files = {"/a": BODY, "/b": BODY}
    yield server
    server.shutdown()
    server.server_close()
