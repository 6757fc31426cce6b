"""The archiver, which keeps snapshots, spoken to over its socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from agents.broker import wire
from agents.engine.archives import Archive, Draft, Manifest, Told
from agents.engine.errors import ArchiveRefused, ArchiveUnreachable, Cancelled

SECONDS = 10.0
SECONDS_TO_VERIFY = 900.0
SECONDS_TO_END = 10.0  # for the work at the other end of a pipe, after ours was closed
SECONDS_TO_FINISH = 960.0  # for the same after all bytes went over: putting a state in place takes its time

T = TypeVar("T")


class ArchiveClient(Archive):
    """See Archive; one connection per call, usable from any thread."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    @contextlib.contextmanager
    def draft(self, key: str, *, progress: Told, cancelled: Callable[[], bool]) -> Iterator[Draft]:
        with self._connected() as connection:
            try:
                yield _Draft(connection, key, progress=progress, cancelled=cancelled)
            finally:
                connection.close()

    def give(self, key: str, sink: Callable[[int], T], *, progress: Told, cancelled: Callable[[], bool]) -> T:
        with self._connected() as connection:
            work = _begin(connection, {"op": "give", "key": key}, sink, writes=False)
            connection.follow(work, until="manifest", progress=progress, cancelled=cancelled)
            return work.result(alive=cancelled)

    def verify(self, key: str, *, cancelled: Callable[[], bool]) -> Manifest:
        with self._connected() as connection:
            connection.ask({"op": "verify", "key": key})
            reply = connection.follow(None, until="manifest", progress=lambda done: None, cancelled=cancelled)
            return reply["manifest"]  # type: ignore[no-any-return]

    def manifest(self, key: str) -> Manifest:
        return self._call({"op": "manifest", "key": key})["manifest"]  # type: ignore[no-any-return]

    def all_keys(self) -> list[str]:
        found: list[str] = []
        while True:
            reply = self._call({"op": "list", "after": found[-1] if found else ""})
            found += reply["keys"]
            if not reply["more"]:
                return found

    def remove(self, key: str) -> bool:
        return bool(self._call({"op": "remove", "key": key}, SECONDS_TO_VERIFY)["removed"])

    def _call(self, request: Mapping[str, Any], seconds: float = SECONDS) -> Mapping[str, Any]:
        with self._connected() as connection:
            connection.ask(request)
            return connection.answer(seconds)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[_Connection]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(SECONDS)
            try:
                sock.connect(self._path)
            except OSError as error:
                raise _away(error) from error
            yield _Connection(sock)


class _Draft(Draft):
    def __init__(self, connection: _Connection, key: str, *, progress: Told, cancelled: Callable[[], bool]) -> None:
        self._connection = connection
        self._key = key
        self._progress = progress
        self._cancelled = cancelled

    def fill(self, source: Callable[[int], T]) -> T:
        work = _begin(self._connection, {"op": "store", "key": self._key}, source, writes=True)
        self._connection.follow(work, until="filled", progress=self._progress, cancelled=self._cancelled)
        return work.result(alive=self._cancelled)

    def keep(self, described: Manifest) -> Manifest:
        self._connection.ask({"op": "keep", "manifest": dict(described)})
        reply = self._connection.follow(None, until="manifest", progress=self._progress, cancelled=self._cancelled)
        return reply["manifest"]  # type: ignore[no-any-return]


class _Work(Generic[T]):
    """The other side of a pipe, in a thread; `end` is closed when it is done."""

    def __init__(self, act: Callable[[int], T], end: int) -> None:
        self._act = act
        self._end = end
        self._answer: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer.append(self._act(self._end))
        except BaseException as error:  # raised by who waits for it
            self._error = error
        finally:
            os.close(self._end)

    def result(self, *, alive: Callable[[], bool]) -> T:
        """Wait for its end; what it returned, or raises what it raised. It is too late for a cancel: `alive` is asked
        all the same, as a sign of life of who waits."""
        until = time.monotonic() + SECONDS_TO_FINISH
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.5)
            alive()
        if self._error is not None:
            raise self._error
        if not self._answer:
            raise ArchiveUnreachable("The state was not carried in time.")
        return self._answer[0]

    def give_up(self, error: BaseException) -> None:
        """Our side failed with `error`: wait for the end of this one. Raises its own error where that is the reason."""
        self._thread.join(SECONDS_TO_END)
        hung_up = isinstance(error, ArchiveRefused) and error.code == "hung-up"
        if hung_up and self._error is not None:
            raise self._error from error


def _begin(connection: _Connection, request: Mapping[str, Any], act: Callable[[int], T], *, writes: bool) -> _Work[T]:
    """Give one end of a new pipe to the archiver with `request`, the other one to `act`."""
    reader, writer = os.pipe()
    theirs, ours = (reader, writer) if writes else (writer, reader)
    try:
        connection.ask(request, theirs)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return _Work(act, ours)


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def ask(self, request: Mapping[str, Any], *descriptors: int) -> None:
        frame = wire.encode(request, most=wire.MOST_REQUEST)
        try:
            sent = socket.send_fds(self._sock, [frame], list(descriptors)) if descriptors else 0
            if sent < len(frame):  # sending nothing fails, too, where the answer came and the door is shut
                self._sock.sendall(frame[sent:])
        except OSError as error:
            raise _away(error) from error

    def answer(self, seconds: float) -> Mapping[str, Any]:
        """The next message. Raises ArchiveRefused when it is a refusal."""
        self._sock.settimeout(seconds)
        try:
            reply = wire.receive(self._sock)
        except OSError as error:
            raise _away(error) from error
        if reply.get("ok") is False:
            message, code = str(reply.get("message")), str(reply.get("code"))
            raise ArchiveRefused(message, code=code, remedy=_REMEDIES.get(code, ""))
        return reply

    def follow(
        self, work: _Work[Any] | None, *, until: str, progress: Told, cancelled: Callable[[], bool]
    ) -> Mapping[str, Any]:
        """Wait for the message that has `until`, telling `progress`. On any other end our side is closed first."""
        try:
            while True:
                if cancelled():
                    raise Cancelled("It was stopped on request.")
                if not self._waits(0.5):
                    continue
                reply = self.answer(SECONDS)
                if reply.get("event") == "progress":
                    progress(int(reply["bytes"]))
                elif until in reply or reply.get("event") == until:
                    return reply
        except BaseException as error:
            self.close()
            if work is not None:
                work.give_up(error)
            raise

    def _waits(self, seconds: float) -> bool:
        """Whether something can be read within `seconds`."""
        self._sock.settimeout(seconds)
        try:
            return self._sock.recv(1, socket.MSG_PEEK) is not None
        except TimeoutError:
            return False
        except OSError as error:
            raise _away(error) from error

    def close(self) -> None:
        """Say that nothing follows, and wait until the other side has tidied up and closed; idempotent."""
        self._sock.settimeout(SECONDS)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while self._sock.recv(65536):
                pass


_REMEDIES = {
    "disk-full": "Ask the administrator to make room below the data directory's snapshots, or remove snapshots.",
    "damaged": "It cannot be used any more; remove it.",
    "missing": "Reload the page: it may have been removed.",
    "too-large": "Remove what the state does not need.",
}


def _away(error: OSError) -> ArchiveUnreachable:
    message = f"The archiver of this service does not answer ({error})."
    return ArchiveUnreachable(message, remedy="Ask the administrator to look at scripts/serve.")
