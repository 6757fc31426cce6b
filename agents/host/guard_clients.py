"""The guard's clients: all are read side by side, each for two seconds, so that a silent one keeps nobody waiting."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

from agents.broker import wire

log = logging.getLogger(__name__)

CLIENT_SECONDS = 2.0
MOST_CLIENTS = 64

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Clients:
    """Reads one request from each connection of `listening`, sends one reply, closes; `answer` is called in turn."""

    def __init__(self, listening: socket.socket, answer: Answer) -> None:
        self._answer = answer
        self._listening = listening
        self._open: dict[socket.socket, tuple[bytearray, float]] = {}
        self._selector = selectors.DefaultSelector()
        listening.setblocking(False)
        self._selector.register(listening, selectors.EVENT_READ)

    def wait(self, *, stop: int, timeout: float) -> bool:
        """Serve until something happened or `timeout` is over; whether `stop` is readable."""
        with contextlib.suppress(KeyError):
            self._selector.register(stop, selectors.EVENT_READ)
        ends = [until - time.monotonic() for _, until in self._open.values()]
        ready = [key.fileobj for key, _ in self._selector.select(max(0.0, min([timeout, *ends])))]
        now = time.monotonic()
        late = [sock for sock, (_, until) in self._open.items() if now > until and sock not in ready]
        if stop in ready:
            return True
        for slow in late:
            log.info("a client was too slow")
            self._close(slow)
        for sock in ready:
            if sock is self._listening:
                self._accept()
            elif isinstance(sock, socket.socket) and sock in self._open:
                self._read(sock)
        return False

    def close(self) -> None:
        """Close every connection; the listening socket is the supervisor's."""
        for sock in list(self._open):
            self._close(sock)
        self._selector.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listening.accept()
        except OSError:
            return
        if len(self._open) >= MOST_CLIENTS:
            self._close(next(iter(self._open)))  # the oldest: who means it has long since said what it wants
        client.setblocking(False)
        self._open[client] = bytearray(), time.monotonic() + CLIENT_SECONDS
        self._selector.register(client, selectors.EVENT_READ)

    def _read(self, client: socket.socket) -> None:
        received = self._open[client][0]
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
            request = wire.decode(bytes(received[wire.HEADER.size : wire.HEADER.size + length]))
            client.send(wire.encode(self._answer(request)))  # fits into the socket's own buffer
        except BlockingIOError:
            return
        except OSError as error:  # WireError is a kind of it
            log.info("a client is dropped: %s", error)
        self._close(client)

    def _close(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._open[client]
        client.close()
