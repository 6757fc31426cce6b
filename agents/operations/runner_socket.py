"""The runner's unix socket: one request, one reply, and only from the processes that belong here."""

from __future__ import annotations

import contextlib
import logging
import pwd
import socket
import struct
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from django.db import close_old_connections, connections

from agents.broker import wire

logger = logging.getLogger(__name__)

ACCOUNTS = ("root", "jackin-web", "jackin-run")
AT_ONCE = 16
PATIENCE = 5.0  # seconds for a request to arrive
AFTER_FAILURE = 0.5


def allowed_uids() -> frozenset[int]:
    """Who may ask: the web processes, the runner's own commands, root."""
    found = set()
    for account in ACCOUNTS:
        with contextlib.suppress(KeyError):
            found.add(pwd.getpwnam(account).pw_uid)
    return frozenset(found)


class SocketServer:
    """Serves `listener` (which it does not close: the supervisor owns it) with a thread per connection, at most 16."""

    def __init__(
        self, listener: socket.socket, *, answer: Callable[[Mapping[str, Any]], dict[str, Any]], uids: Collection[int]
    ) -> None:
        self._listener = listener
        self._answer = answer
        self._uids = frozenset(uids)
        self._stop = threading.Event()
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._thread = threading.Thread(target=self._accept, name="runner-socket", daemon=True)

    def start(self) -> None:
        self._listener.settimeout(0.5)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while not self._stop.is_set():
            if not self._places.acquire(timeout=0.5):
                continue
            try:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), name="runner-request", daemon=True).start()
            except TimeoutError:
                self._places.release()
            except (OSError, RuntimeError):  # no descriptor or no thread is free now; there will be again
                self._places.release()
                logger.exception("the runner's socket")
                self._stop.wait(AFTER_FAILURE)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(PATIENCE)
                if (uid := peer_uid(connection)) not in self._uids:
                    logger.warning("a process of uid %d was refused", uid)
                    return
                close_old_connections()
                request = wire.receive(connection, most=wire.MOST_REQUEST)
                wire.send(connection, self._answer(request))
        except OSError as error:
            logger.info("a request was not answered (%s)", type(error).__name__)
        finally:
            connections.close_all()
            self._places.release()


def peer_uid(connection: socket.socket) -> int:
    """The uid of the process that connected, as the kernel noted it then."""
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
