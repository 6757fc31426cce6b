"""Another person's web server on this host, on another port: it serves what it is told and writes down what it gets."""

from __future__ import annotations

import contextlib
import ctypes
import http.server
import threading
from collections.abc import Iterator
from http.cookies import SimpleCookie

_libc = ctypes.CDLL(None, use_errno=True)


class HostileServer(http.server.ThreadingHTTPServer):
    """`page` is what every address answers, `cookies` the Set-Cookie headers with it, `heard` the Cookie headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page = ""
        self.cookies: list[str] = []
        self.heard: list[str] = []

    def address(self, host: str = "127.0.0.1") -> str:
        """Where a browser finds it."""
        return f"http://{host}:{self.server_port}/"

    def stolen(self, name: str) -> str:
        """The value of a cookie that a browser sent."""
        for line in reversed(self.heard):
            found = SimpleCookie(line).get(name)
            if found is not None:
                return str(found.value)
        raise AssertionError(f"no cookie {name} came: {self.heard}")


class _Handler(http.server.BaseHTTPRequestHandler):
    server: HostileServer

    def do_GET(self) -> None:
        self.server.heard += self.headers.get_all("Cookie", [])
        body = f"<!DOCTYPE html><title>hostile</title>{self.server.page}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for cookie in self.server.cookies if self.path == "/" else ():  # the browser asks for an icon too, later
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test looks at `heard`."""


@contextlib.contextmanager
def hostile_server() -> Iterator[HostileServer]:
    """A running one."""
    with HostileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def connecting_as(uid: int) -> Iterator[None]:
    """Sockets that this thread makes belong to the account `uid`, as those of a program of its own would."""
    before = _libc.setfsuid(uid)
    assert _libc.setfsuid(-1) == uid, "needs root"
    try:
        yield
    finally:
        _libc.setfsuid(before)
