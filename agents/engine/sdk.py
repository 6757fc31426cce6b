"""The one place where the docker SDK's clients are made and its errors become ours."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import NoReturn

import docker
import requests
import urllib3.exceptions
from docker import errors as sdk_errors

from agents.engine.errors import Conflict, EngineError, EngineUnreachable, NotFound

TIMEOUT = 60  # seconds that one answer may take; builds and events have none
MOST_IDLE = 4

_CONNECTION_ERRORS = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
    OSError,
)


class Pool:
    """Clients of one engine, each used by one thread at a time: a requests.Session is not made for sharing."""

    def __init__(self, socket_path: str | os.PathLike[str]) -> None:
        self.socket_path = os.fspath(socket_path)
        self._lock = threading.Lock()
        self._idle: list[docker.DockerClient] = []

    def fresh(self) -> docker.DockerClient:
        """A client of the caller's own, its API version negotiated; the caller closes it."""
        with translated(f"the engine at {self.socket_path}"):
            self._try_socket()
            return docker.DockerClient(base_url=f"unix://{self.socket_path}", version="auto", timeout=TIMEOUT)

    def _try_socket(self) -> None:
        # The SDK leaks a descriptor for each connection that is refused, and hides why in three layers of errors.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(self.socket_path)

    @contextlib.contextmanager
    def client(self, what: str) -> Iterator[docker.DockerClient]:
        """A client for the block; SDK errors in it are raised as ours and name `what`."""
        with self._lock:
            found = self._idle.pop() if self._idle else None
        found = found or self.fresh()
        try:
            with translated(what):
                yield found
        except EngineUnreachable:
            found.close()
            raise
        except BaseException:
            self._give_back(found)
            raise
        self._give_back(found)

    def _give_back(self, client: docker.DockerClient) -> None:
        with self._lock:
            if len(self._idle) < MOST_IDLE:
                self._idle.append(client)
                return
        client.close()

    def close(self) -> None:
        """Close what is idle; the pool can still be used."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise errors of the SDK, of HTTP and of the socket as EngineError; the message names `what`."""
    try:
        yield
    except EngineError:
        raise
    except sdk_errors.APIError as error:
        raise_for(what, error.response.status_code if error.response is not None else 500, explanation(error))
    except sdk_errors.DockerException as error:
        if _is_connection(error):
            raise unreachable(error) from error
        raise EngineError(f"The engine cannot do this with {what}: {error}") from error
    except _CONNECTION_ERRORS as error:
        raise unreachable(error) from error


def raise_for(what: str, status: int, said: str) -> NoReturn:
    """Raise our error for an answer of the engine with `status`."""
    if status == 404:
        raise NotFound(f"The engine does not know {what}: {said}")
    if status == 409:
        raise Conflict(f"The engine refuses a change of {what} now: {said}", remedy="Wait a moment and try again.")
    raise EngineError(
        f"The engine failed at {what}: {said}", remedy="Its log (`manage.py doctor` says where) has more."
    )


def unreachable(error: BaseException) -> EngineUnreachable:
    """Our error for an engine that does not answer."""
    return EngineUnreachable(
        f"The container engine does not answer: {error}",
        remedy="Look at the service's output; `manage.py doctor` examines the engine.",
    )


def explanation(error: sdk_errors.APIError) -> str:
    """What the engine itself said, without the SDK's words around it."""
    return str(error.explanation or error).strip()


def _is_connection(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _CONNECTION_ERRORS):
            return True
        seen = seen.__cause__ or seen.__context__
    return "Error while fetching server API version" in str(error)
