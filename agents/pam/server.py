"""The loop of the PAM process: reads a request, looks at the limits, forks one process that asks PAM and answers."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import resource
import selectors
import signal
import socket
import struct
import time
from typing import Any

from agents.broker import syscalls, wire
from agents.broker.owner import close_all_but
from agents.broker.tries import Tries
from agents.pam.check import WRONG, Check

log = logging.getLogger(__name__)

WINDOW = 15 * 60.0  # seconds
MOST_OF_ONE = 5  # attempts within the window, of one web user and, by anybody, for one account
MOST_OF_ALL = 30
SECONDS_TO_TALK = 5.0
SECONDS_TO_CHECK = 10.0
WRONG_TAKES = 3.5  # a wrong answer comes no earlier, whatever was wrong: PAM's own delay differs by reason
MOST_CLIENTS = 32
KEYS = {"web_user", "account", "password", "ask"}
_CREDENTIALS = struct.Struct("iII")


@dataclasses.dataclass(kw_only=True, eq=False)
class Asking:
    """A process that asks PAM."""

    pid: int
    pidfd: int
    until: float


class Server:
    """Serves `listener`, which only root may connect to, until `stop` becomes readable. `check` is None without PAM."""

    def __init__(self, listener: socket.socket, check: Check | None, *, wrong_takes: float = WRONG_TAKES) -> None:
        self._listener, self._check, self._wrong_takes = listener, check, wrong_takes
        self._users = Tries(most=MOST_OF_ONE, seconds=WINDOW)
        self._accounts = Tries(most=MOST_OF_ONE, seconds=WINDOW)
        self._all = Tries(most=MOST_OF_ALL, seconds=WINDOW)
        self._clients: dict[socket.socket, tuple[bytearray, float]] = {}
        self._asking: list[Asking] = []
        self._selector = selectors.DefaultSelector()

    def run(self, *, stop: int) -> None:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(stop, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in self._selector.select(0.5 if self._clients or self._asking else None)]
            if stop in ready:
                break
            for found in ready:
                if found is self._listener:
                    self._accept()
                elif isinstance(found, socket.socket):
                    self._read(found)
            self._look_at_the_clock()
        for one in self._asking:
            self._end(one)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        _, uid, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid != os.geteuid() or len(self._clients) >= MOST_CLIENTS:
            log.warning("a connection of uid %d is refused", uid)
            client.close()
            return
        client.setblocking(False)
        self._clients[client] = bytearray(), time.monotonic() + SECONDS_TO_TALK
        self._selector.register(client, selectors.EVENT_READ)

    def _read(self, client: socket.socket) -> None:
        received = self._clients[client][0]
        try:
            piece = client.recv(wire.HEADER.size + wire.MOST_REQUEST)
            if not piece:
                raise wire.WireError("closed before its request was complete")
            received += piece
            if len(received) < wire.HEADER.size:
                return
            length = wire.body_length(bytes(received[: wire.HEADER.size]), most=wire.MOST_REQUEST)
            if len(received) < wire.HEADER.size + length:
                return
            self._answer(client, wire.decode(bytes(received[wire.HEADER.size : wire.HEADER.size + length])))
        except BlockingIOError:
            return
        except OSError as error:
            log.info("a client is dropped: %s", type(error).__name__)
        self._close(client)

    def _answer(self, client: socket.socket, request: dict[str, Any]) -> None:
        if set(request) != KEYS or not all(isinstance(request[name], str) for name in KEYS - {"ask"}):
            return client.sendall(wire.encode({"answer": "bad-request"}))
        if self._check is None:
            return client.sendall(wire.encode({"answer": "away"}))
        # Names that differ in case only may be one account for a name service.
        user, account = request["web_user"], request["account"].casefold()
        wait = max(self._users.wait(user), self._accounts.wait(account), self._all.wait(""))
        if wait:
            return client.sendall(wire.encode({"answer": "limit", "seconds": wait}))
        for tries, key in ((self._users, user), (self._accounts, account), (self._all, "")):
            tries.count(key)
        self._fork(client, request)
        return None

    def _fork(self, client: socket.socket, request: dict[str, Any]) -> None:
        """A process for each question: PAM takes its time, and what it leaves in memory ends with it."""
        pid = os.fork()
        if pid == 0:
            _ask(client, request, self._check, self._wrong_takes)
        found = Asking(pid=pid, pidfd=os.pidfd_open(pid), until=time.monotonic() + SECONDS_TO_CHECK)
        self._asking.append(found)
        self._selector.register(found.pidfd, selectors.EVENT_READ)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        for client in [one for one, (_, until) in self._clients.items() if now > until]:
            self._close(client)
        for one in list(self._asking):
            if now > one.until or os.waitid(os.P_PIDFD, one.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                self._end(one)
                self._asking.remove(one)

    def _end(self, one: Asking) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(one.pidfd, signal.SIGKILL)
        os.waitpid(one.pid, 0)
        with contextlib.suppress(KeyError):
            self._selector.unregister(one.pidfd)
        os.close(one.pidfd)

    def _close(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._clients[client]
        client.close()


def _ask(client: socket.socket, request: dict[str, Any], check: Check | None, wrong_takes: float) -> None:
    """In the forked process: the answer, and the end. Nothing of what was asked is ever written."""
    status = 1
    try:
        began = time.monotonic()
        close_all_but({1, 2, client.fileno()})
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        syscalls.make_undumpable()
        syscalls.die_with_parent(signal.SIGKILL)
        client.settimeout(SECONDS_TO_TALK)
        # `ask` is false for accounts that agents never run for: their passwords are nobody's to try here.
        asked = request["ask"] is True and check is not None
        answer = check(request["account"], request["password"]) if asked and check else WRONG
        if answer == WRONG:
            time.sleep(max(0.0, began + wrong_takes - time.monotonic()))
        client.sendall(wire.encode({"answer": answer}))
        status = 0
    finally:
        os._exit(status)
