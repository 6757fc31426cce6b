"""The runner's side door: streams come in as file descriptors, events go out. One SOCK_SEQPACKET message each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Mapping
from typing import Any, Final

from agents.terminals import protocol
from agents.terminals.hub import MOST_PUMPS, Hub
from agents.terminals.protocol import ProtocolError
from agents.terminals.ring import LIMIT

log = logging.getLogger(__name__)

MOST_DESCRIPTORS: Final = 2
MOST_RUNNERS: Final = 4  # one speaks; another may be starting while the old one ends
MOST_UNREAD: Final = 2048  # events that a runner has not taken yet
MOST_RESIZES: Final = 2  # of one agent that wait for a slow runner


class Feed:
    """Accepts the runner on `listener`; the newest one that said hello gets the events."""

    def __init__(self, listener: socket.socket) -> None:
        self.hub = Hub(emit=self.emit)
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._runners: list[Runner] = []
        self._listening: Runner | None = None
        self._resized: dict[str, bytes] = {}  # the last one of each agent
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)

    def emit(self, event: Mapping[str, Any]) -> None:
        """Tell the runner.

        The last resize of each agent is kept for the next runner: nobody knows whether the one that just went away
        had read it. That a stream ended, `hello` shows.
        """
        message = protocol.encode_message(event)
        resizes = event["agent"] if event["event"] == "resize" else ""
        if resizes:
            self._resized.pop(resizes, None)
            self._resized[resizes] = message
            if len(self._resized) > MOST_PUMPS:
                del self._resized[next(iter(self._resized))]
        if self._listening is not None:
            self._listening.send(message, resizes=resizes)

    def greet(self, runner: Runner) -> None:
        """`runner` said hello: it speaks for the engine from now on."""
        self._listening = runner
        live = self.hub.live()
        runner.send(protocol.encode_message({"event": "streams", "agents": live}))
        for agent in live:
            if agent in self._resized:
                runner.send(self._resized[agent], resizes=agent)

    def drop(self, agent: str, reason: str) -> None:
        """The agent is gone."""
        self._resized.pop(agent, None)
        self.hub.drop(agent, reason)

    def forget(self, runner: Runner) -> None:
        """`runner` is gone; pumps and windows go on without one."""
        self._runners.remove(runner)
        if self._listening is runner:
            self._listening = None
            log.info("the runner is gone, terminals go on")

    def close(self) -> None:
        """Stop accepting, close everything."""
        self._loop.remove_reader(self._listener.fileno())
        for runner in list(self._runners):
            runner.close()
        self.hub.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self._listener.accept()
            if len(self._runners) >= MOST_RUNNERS:
                self._runners[0].close()
            self._runners.append(Runner(connection, feed=self))


class Runner:
    """One connection of the runner."""

    def __init__(self, connection: socket.socket, *, feed: Feed) -> None:
        self._connection = connection
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._unsent: list[tuple[str, bytes]] = []  # with the agent of a resize
        connection.setblocking(False)
        self._loop.add_reader(connection.fileno(), self._readable)

    def send(self, message: bytes, *, resizes: str = "") -> None:
        """Queue a message. A runner that reads nothing is dropped before the queue grows large.

        Of the resizes of one agent (`resizes`) only the last two wait: somebody who pulls at a window all the time
        must not cut everybody off. Two, because the program draws anew between them.
        """
        waiting = [at for at, (agent, _) in enumerate(self._unsent) if resizes and agent == resizes]
        if len(waiting) >= MOST_RESIZES:
            del self._unsent[waiting[0]]
        if len(self._unsent) >= MOST_UNREAD:
            log.warning("the runner takes no events, its connection is closed")
            self.close()
            return
        self._unsent.append((resizes, message))
        if len(self._unsent) == 1:
            self._write()

    def _write(self) -> None:
        self._loop.remove_writer(self._connection.fileno())
        while self._unsent:
            try:
                self._connection.send(self._unsent[0][1])
            except BlockingIOError:
                self._loop.add_writer(self._connection.fileno(), self._write)
                return
            except OSError:
                self._unsent.clear()  # the reader sees the end too, and closes
                return
            self._unsent.pop(0)

    def _readable(self) -> None:
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:
            data, descriptors, found, _ = socket.recv_fds(
                self._connection, protocol.MOST_MESSAGE, MOST_DESCRIPTORS, flags
            )
        except BlockingIOError:
            return
        except OSError:
            data, descriptors, found = b"", [], 0
        with contextlib.ExitStack() as unused:
            for descriptor in descriptors:
                unused.callback(_close_quietly, descriptor)
            if not data:
                self.close()
                return
            try:
                if found & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                    raise ProtocolError("a message longer than allowed")
                self._obey(protocol.json_object(data), descriptors)
            except ProtocolError as error:
                log.warning("the runner's connection is closed: %s", error)
                self.close()

    def _obey(self, message: dict[str, Any], descriptors: list[int]) -> None:
        match message:
            case {"op": "hello"} if len(message) == 1:
                self._feed.greet(self)
            case {"op": "stream", "agent": agent, "rows": rows, "columns": columns} if len(message) == 4:
                key, size = protocol.agent_of(agent), protocol.size_of(rows, columns)
                history = _read_history(descriptors[1]) if len(descriptors) > 1 else b""
                self._feed.hub.stream(key, _take_stream(descriptors), size=size, history=history)
            case {"op": "drop", "agent": agent, "reason": reason} if len(message) == 3:
                self._feed.drop(protocol.agent_of(agent), protocol.reason_of(reason))
            case _:
                raise ProtocolError("not a message of the feed")

    def close(self) -> None:
        if self._connection.fileno() < 0:
            return
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._connection.close()
        self._feed.forget(self)


def _close_quietly(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _take_stream(descriptors: list[int]) -> socket.socket:
    """A copy of the first descriptor as a stream socket of our own."""
    if not descriptors or not stat.S_ISSOCK(os.fstat(descriptors[0]).st_mode):
        raise ProtocolError("a stream without its socket")
    stream = socket.socket(fileno=os.dup(descriptors[0]))
    if stream.type != socket.SOCK_STREAM:
        stream.close()
        raise ProtocolError("not a stream socket")
    return stream


def _read_history(descriptor: int) -> bytes:
    """The last LIMIT bytes of a file in memory."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ProtocolError("earlier output that is not a file")
    return os.pread(descriptor, LIMIT, max(0, status.st_size - LIMIT))
