"""A few calls of the Docker API over the engine's unix socket, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agents.host.shell import HostError

Body = bytes | Iterable[bytes] | None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, *, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class EngineAnswer(HostError):
    """The engine said no; `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class EngineApi:
    """Calls on the engine behind `path`. No version in the URL: the engine's own newest one is used."""

    def __init__(self, path: Path, *, timeout: float = 60) -> None:
        self.path = path
        self._timeout = timeout

    def call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Body = None, kind: str = ""
    ) -> bytes:
        """The raw answer. Raises EngineAnswer for an error status, OSError when nobody listens."""
        connection = _UnixConnection(self.path, timeout=self._timeout)
        url = path + ("?" + urllib.parse.urlencode(query) if query else "")
        try:
            chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, url, body, {"Content-Type": kind} if kind else {}, encode_chunked=chunked)
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise HostError(f"The engine broke off its answer to {method} {path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            words = content.decode(errors="replace")[:500].strip()
            raise EngineAnswer(f"The engine refused {method} {path}: {words}", status=answer.status)
        return content

    def json(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """The answer read as JSON; `body` is sent as JSON."""
        sent = None if body is None else json.dumps(body).encode()
        content = self.call(method, path, query=query, body=sent, kind="application/json" if sent else "")
        return json.loads(content) if content.strip() else None

    def ping(self) -> bool:
        """Whether the engine answers."""
        try:
            return self.call("GET", "/_ping").strip() == b"OK"
        except (OSError, HostError):
            return False

    def running(self) -> list[str]:
        """Ids of all running containers."""
        return [entry["Id"] for entry in self.json("GET", "/containers/json")]

    def has_image(self, tag: str) -> bool:
        """Whether there is an image under `tag`."""
        try:
            self.call("GET", f"/images/{tag}/json")
        except EngineAnswer as error:
            if error.status == 404:
                return False
            raise
        return True

    def import_image(self, *, repository: str, tag: str, content: Body, changes: Iterable[str] = ()) -> None:
        """Make an image of one tar stream."""
        query = [("fromSrc", "-"), ("repo", repository), ("tag", tag), *(("changes", line) for line in changes)]
        path = "/images/create?" + urllib.parse.urlencode(query)
        _check_progress(self.call("POST", path, body=content, kind="application/x-tar"))

    def pull(self, *, repository: str, tag: str) -> None:
        """Get an image from its registry. Raises HostError or OSError."""
        _check_progress(self.call("POST", "/images/create", query={"fromImage": repository, "tag": tag}))


def _check_progress(content: bytes) -> None:
    """Image calls answer 200 and put their failure into the last line."""
    for line in content.splitlines():
        if line.strip() and "error" in (message := json.loads(line)):
            raise HostError(f"The engine could not get the image: {message['error']}")
