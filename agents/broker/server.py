"""The broker's event loop: one thread that only reads requests, forks workers and sends their answers."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import selectors
import signal
import socket
import struct
import time
from typing import Any

from agents.broker import accounts, operations, record, wire
from agents.broker.archive import SECONDS_TO_STREAM
from agents.broker.config import Config
from agents.broker.connections import Connection, Job
from agents.broker.owner import SECONDS_TO_LOOK
from agents.broker.protocol import ACTS, ONLY_ROOT, STREAMS, Refusal, Request, parse
from agents.broker.workers import SECONDS_TO_ACT, SECONDS_TO_ANSWER, STREAM, Workers

log = logging.getLogger(__name__)

SECONDS_TO_TALK = 5.0  # for a client to send its request, or to take the reply
MOST_CONNECTIONS = 1024
MOST_ACCEPTED = 64  # in one turn: requests that wait inside are not kept waiting by those that come
TURN = 0.1  # how late a deadline may be seen
_BUSY = wire.encode(Refusal("busy", what=f"{MOST_CONNECTIONS} requests are being answered").reply())
_CREDENTIALS = struct.Struct("iII")


class Server:
    """Serves `listener` until `stop()`; keeps no state of its own beyond the running requests."""

    def __init__(self, listener: socket.socket, config: Config) -> None:
        self._listener = listener
        self._config = config
        self._workers = Workers()
        self._connections: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._jobs: dict[int, Job] = {}  # by the worker's pid
        self._next_look = 0.0
        self._wake, self._waker = socket.socketpair()

    def stop(self, *_: object) -> None:
        """Ask the loop to end; usable as a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Serve. Returns after `stop()`, when every worker is gone."""
        for sock in (self._listener, self._wake, self._waker):
            sock.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._wake, selectors.EVENT_READ, self._wake)
        before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        try:
            while not self._stopping:
                for key, _ in self._selector.select(self._patience()):
                    self._handle(key.data)
                self._watch_clock()
        finally:
            signal.set_wakeup_fd(before)
            self._workers.kill_all()
            for connection in list(self._connections):
                self._close(connection)
            self._selector.close()
            self._wake.close()
            self._waker.close()

    def _patience(self) -> float | None:
        if (late := self._workers.next_deadline()) is not None:
            return max(0.0, min(late - time.monotonic(), TURN))
        return 0.5 if self._workers.lingering or self._connections or self._workers.running else None

    def _handle(self, what: Any) -> None:
        if what is None:
            self._accept()
        elif what is self._wake:
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(4096)
        elif isinstance(what, Connection):
            self._talk(what)
        else:
            self._worker_moved(what)

    def _accept(self) -> None:
        for _ in range(MOST_ACCEPTED):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor is left: whoever waits is taken in later
                log.warning("no connection can be taken: %s", error)
                return
            self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid not in self._config.allowed_peers:
            log.warning("refusing a connection of uid %d", uid)
            sock.close()
            return
        if len(self._connections) >= MOST_CONNECTIONS:
            with contextlib.suppress(OSError):
                sock.send(_BUSY)  # it fits into the empty buffer, and is read although we close
            sock.close()
            return
        now = time.monotonic()
        connection = Connection(sock=sock, uid=uid, came=now, until=now + SECONDS_TO_TALK)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _talk(self, connection: Connection) -> None:
        try:
            if connection.outgoing:
                sent = connection.sock.send(connection.outgoing)
                connection.outgoing = connection.outgoing[sent:]
                if not connection.outgoing:
                    self._close(connection)
            elif connection.complete():
                self._selector.unregister(connection.sock)
                self._begin(connection)
        except BlockingIOError:
            return
        except OSError as error:
            log.info("a client went away: %s", error)
            self._close(connection)

    def _begin(self, connection: Connection) -> None:
        """Check the request and give it to a worker, or answer at once."""
        try:
            request = self._request(connection)
            share = self._share(request)
            if reason := self._workers.refusal(share=share, launch=request.launch or request.state):
                raise Refusal("busy", what=reason)
        except Refusal as refusal:
            return self._answer(connection, wire.encode(refusal.reply()))
        except (OSError, ValueError, KeyError, TypeError):
            log.exception("a request could not be looked at")
            return self._answer(connection, wire.encode(Refusal("internal", what="reading its own files").reply()))
        self._start(connection, request, share)
        return None

    def _request(self, connection: Connection) -> Request:
        header, body = connection.incoming[: wire.HEADER.size], bytes(connection.incoming[wire.HEADER.size :])
        try:
            length = wire.body_length(bytes(header), most=wire.MOST_REQUEST)
            if length != len(body):
                raise wire.WireError("there is more than one message")
            message = wire.decode(body)
        except wire.WireError as error:
            raise Refusal("bad-request", detail=str(error)) from error
        request = parse(message)
        if request.op in ONLY_ROOT and connection.uid != 0:
            raise Refusal("forbidden")
        if (request.op in STREAMS) != bool(connection.descriptors):
            raise Refusal("bad-request", detail=f"{request.op} came with {len(connection.descriptors)} descriptors")
        return dataclasses.replace(request, stream=(connection.descriptors or [-1])[0])

    def _share(self, request: Request) -> str:
        """Whose share of the workers the request takes. Admitting and releasing never wait for looking."""
        if request.op in {"admit", "release"}:
            try:
                found = record.find(request.launch, self._config)
            except (ValueError, KeyError, TypeError):
                found = None
            return f"{found.account}:launch" if found else "nobody:launch"
        if request.op in {"measure_state", "purge_state"}:
            return f"states:{request.state[:8]}"
        if request.op in {"identity", "check", "list", "stage", "make_state", *STREAMS}:
            account = str(accounts.linked(request.web_user, self._config)["account"])
            return account + STREAM if request.op in STREAMS else account
        if request.op == "link_with_password":  # PAM is slow on purpose; this many at a time are enough
            return "linking:password"
        return f"root:{request.op}"

    def _start(self, connection: Connection | None, request: Request, share: str) -> None:
        now = time.monotonic()
        # A look counts from when the client came: on a busy machine it has waited for its worker already.
        begun = now if connection is None or request.op in ACTS else connection.came
        config, until = self._config, begun + SECONDS_TO_LOOK
        end = now + SECONDS_TO_ACT if request.op in ACTS else begun + SECONDS_TO_ANSWER
        if request.op in STREAMS:
            end = now + SECONDS_TO_STREAM + SECONDS_TO_ACT

        def task() -> dict[str, Any]:
            return operations.perform(request, config, until=until)

        keep = frozenset(connection.descriptors if connection else ())
        launch = request.launch or request.state
        worker = self._workers.start(task, share=share, launch=launch, until=end, keep=keep)
        if connection is not None:
            connection.drop_descriptors()  # else the other end never learns that the worker has ended
            connection.worker = worker
        job = Job(worker=worker, connection=connection, request=request)
        self._jobs[worker.pid] = job
        self._selector.register(worker.pipe, selectors.EVENT_READ, job)
        self._selector.register(worker.pidfd, selectors.EVENT_READ, job)

    def _worker_moved(self, job: Job) -> None:
        worker = job.worker
        if worker.pid not in self._jobs:
            return  # both of its descriptors were ready
        if self._workers.read(worker):
            self._forget(worker.pipe)
        if not worker.ended():
            return
        self._forget(worker.pipe)
        self._forget(worker.pidfd)
        del self._jobs[worker.pid]
        if self._workers.end(worker):
            self._finish(job, bytes(worker.reply))
            return
        self._finish(job, wire.encode(_failure(job.request, late=worker.late).reply()))
        if job.request.op == "stage":
            self._clean_after(job.request)

    def _finish(self, job: Job, reply: bytes) -> None:
        """Answer, once; nobody waits for what the broker asked of itself."""
        connection, job.connection = job.connection, None
        if connection is not None:
            connection.worker = None
            self._answer(connection, reply)

    def _forget(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def _clean_after(self, request: Request) -> None:
        """A worker died while it staged: remove what it had made."""
        self._start(None, Request(op="release", launch=request.launch), "nobody:launch")

    def _answer(self, connection: Connection, reply: bytes) -> None:
        connection.drop_descriptors()
        connection.outgoing = reply
        connection.until = time.monotonic() + SECONDS_TO_TALK
        self._selector.register(connection.sock, selectors.EVENT_WRITE, connection)

    def _watch_clock(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + TURN / 2
        for worker in self._workers.kill_late():  # it may hang in the kernel: its client does not wait for its end
            job = self._jobs[worker.pid]
            self._finish(job, wire.encode(_failure(job.request, late=True).reply()))
        self._workers.reap()
        for connection in [each for each in self._connections if each.worker is None and now > each.until]:
            log.info("a client was too slow")
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.sock)
        connection.sock.close()
        connection.drop_descriptors()
        self._connections.discard(connection)


def _failure(request: Request, *, late: bool) -> Refusal:
    if late:
        seconds = SECONDS_TO_ACT if request.op in ACTS else SECONDS_TO_ANSWER
        return Refusal("timeout", path=request.path or "One of the directories", seconds=int(seconds))
    return Refusal("internal", what=request.op)
