"""The runner's connection to the terminals process: hand over streams, hear when one ends or a window changes size."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agents.terminals import protocol

SEND_WITHIN: Final = 10  # seconds


class FeedLost(ConnectionError):
    """The terminals process does not answer, or the connection to it ended: connect again."""


class FeedClient:
    """One connection at a time. `push` and `drop` from any thread; `events` in one thread of its own."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._sending = threading.Lock()
        self._state = threading.Lock()
        self._socket: socket.socket | None = None
        self._streams: set[str] = set()

    def connect(self) -> None:
        """Connect and say hello; `streams` is known afterwards. Replaces an earlier connection. Raises FeedLost."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(SEND_WITHIN)
            connection.connect(self._path)
            connection.send(protocol.encode_message({"op": "hello"}))
            agents = _agents_in(protocol.json_object(connection.recv(protocol.MOST_MESSAGE)))
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_WITHIN, 0))
        except (OSError, protocol.ProtocolError) as error:
            connection.close()
            raise FeedLost(error) from error
        with self._state:
            self._socket, self._streams = connection, agents

    def streams(self) -> set[str]:
        """Agents whose stream the terminals process holds."""
        with self._state:
            return set(self._streams)

    def push(self, agent: str, sock: socket.socket, rows: int, columns: int, history: bytes = b"") -> None:
        """Hand over the stream of a TTY of that size.

        `history` is the output before it as the engine recorded it; its last 512 KiB count. Where terminals knows part
        of it already, nothing is shown twice. The socket belongs to this call: it is closed here in any case. Raises
        FeedLost: make another one.
        """
        message = {"op": "stream", "agent": agent, "rows": rows, "columns": columns}
        with self._state:
            self._streams.add(agent)  # before the message leaves: its end may be told before this returns
        with contextlib.ExitStack() as ours:
            ours.callback(sock.close)
            descriptors = [sock.fileno()]
            if history:
                descriptors.append(_in_memory(history))
                ours.callback(os.close, descriptors[-1])
            self._send(message, descriptors)

    def drop(self, agent: str, reason: str) -> None:
        """The agent is gone: its windows are told `reason` and closed. Idempotent. Raises FeedLost."""
        self._send({"op": "drop", "agent": agent, "reason": reason[: protocol.MOST_REASON]}, [])
        with self._state:
            self._streams.discard(agent)

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Events as they come; raises FeedLost when the connection ends, by `close` too.

        `{"event": "ended", "agent"}`: its stream ended, with its container or with the engine; push another, or drop.
        `{"event": "resize", "agent", "rows", "columns"}`: set the TTY's size. Two in a row make a program draw anew:
        leave none out.
        """
        while True:
            with self._state:
                connection = self._socket
            try:
                data = connection.recv(protocol.MOST_MESSAGE) if connection is not None else b""
                if not data:
                    raise FeedLost("the terminals process closed the connection")
                event = _event_in(protocol.json_object(data))
            except (OSError, protocol.ProtocolError) as error:
                raise FeedLost(error) from error
            if event["event"] == "ended":
                with self._state:
                    self._streams.discard(event["agent"])
            yield event

    def close(self) -> None:
        """End the connection; a thread in `events` gets FeedLost. The terminals go on."""
        with self._state:
            connection, self._socket = self._socket, None
            self._streams = set()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _send(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        data = protocol.encode_message(message)
        with self._sending:
            with self._state:
                connection = self._socket
            if connection is None:
                raise FeedLost("not connected")
            try:
                if descriptors:
                    socket.send_fds(connection, [data], descriptors)
                else:
                    connection.send(data)
            except OSError as error:
                raise FeedLost(error) from error


def _in_memory(history: bytes) -> int:
    """A file without a name that holds the end of `history`."""
    descriptor = os.memfd_create("history", os.MFD_CLOEXEC)
    with open(os.dup(descriptor), "wb") as file:
        file.write(history[-512 * 1024 :])
    return descriptor


def _agents_in(message: Mapping[str, Any]) -> set[str]:
    agents = message.get("agents")
    if message.get("event") != "streams" or not isinstance(agents, list):
        raise protocol.ProtocolError("not the answer to hello")
    return {protocol.agent_of(agent) for agent in agents}


def _event_in(message: Mapping[str, Any]) -> Mapping[str, Any]:
    agent = protocol.agent_of(message.get("agent"))
    if message.get("event") == "ended":
        return {"event": "ended", "agent": agent}
    if message.get("event") == "resize":
        size = protocol.size_of(message.get("rows"), message.get("columns"))
        return {"event": "resize", "agent": agent, "rows": size.rows, "columns": size.columns}
    raise protocol.ProtocolError("not an event of the feed")
