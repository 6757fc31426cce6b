"""A broker and an engine in memory, a recorder of streams, and a proxy that breaks any call."""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agents.engine.feed_client import FeedLost


class Broken:
    """`target`, but the calls in `errors` raise instead; all others go through. Errors may be changed at any time."""

    def __init__(self, target: Any, errors: dict[str, Exception] | None = None) -> None:
        self.target = target
        self.errors: dict[str, Exception] = dict(errors or {})
        self.before: dict[str, Callable[[], object]] = {}  # what to do just before a call
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.target, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if name in self.before:
                self.before[name]()
            if name in self.errors:
                raise self.errors[name]
            return found(*args, **kwargs)

        return call


class RecordedStreams:
    """A sink that remembers who got a stream and whose was dropped."""

    def __init__(self) -> None:
        self.held: dict[str, socket.socket] = {}
        self.dropped: dict[str, str] = {}

    def push(self, key: str, stream: socket.socket, *, rows: int, columns: int, history: bytes = b"") -> None:
        assert rows > 0
        assert columns > 0
        if (earlier := self.held.pop(key, None)) is not None:
            earlier.close()
        self.held[key] = stream

    def drop(self, key: str, reason: str) -> None:
        self.dropped[key] = reason
        if (stream := self.held.pop(key, None)) is not None:
            stream.close()

    def close(self) -> None:
        for key in list(self.held):
            self.drop(key, "closed")


class MemoryFeed:
    """A terminals process in memory: it can be taken away, and can tell events."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self.dropped: list[str] = []
        self.away = False
        self.told: queue.Queue[Mapping[str, Any] | None] = queue.Queue()

    def connect(self) -> None:
        if self.away:
            raise FeedLost("away")

    def streams(self) -> set[str]:
        return set(self.known)

    def push(self, agent: str, sock: socket.socket, rows: int, columns: int, history: bytes = b"") -> None:
        sock.close()
        if self.away:
            raise FeedLost("away")
        self.known[agent] = history

    def drop(self, agent: str, reason: str) -> None:
        self.known.pop(agent, None)
        self.dropped.append(agent)

    def events(self) -> Iterator[Mapping[str, Any]]:
        while (event := self.told.get()) is not None:
            yield event
        raise FeedLost("closed")

    def close(self) -> None:
        self.told.put(None)
