"""The runner's end of the terminals process: every running agent's TTY stream is there, whoever restarted."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from django.db import close_old_connections, connections

from agents.engine.errors import EngineError, NotFound
from agents.engine.feed_client import FeedLost
from agents.engine.types import LABEL_AGENT, ContainerInfo
from agents.models import Agent, AgentStatus
from agents.operations.engines import Engines

logger = logging.getLogger(__name__)

HISTORY = 512 * 1024  # bytes of earlier output for a terminals process that knows nothing
RETRY_AFTER = 1.0  # seconds
ROWS, COLUMNS = 40, 120  # until the first viewer says otherwise; nothing draws at 0×0


class StreamSink(Protocol):
    """Where a TTY stream goes to be kept and shown."""

    def push(self, key: str, stream: socket.socket, *, rows: int, columns: int, history: bytes = b"") -> None:
        """Hand over `stream`; it is closed here in every case. Never raises for a sink that is away."""

    def drop(self, key: str, reason: str) -> None:
        """There will be no more output of this agent. Never raises for a sink that is away."""


class Feed(Protocol):
    """What `Streams` uses of agents.engine.feed_client.FeedClient."""

    def connect(self) -> None: ...
    def streams(self) -> set[str]: ...
    def push(self, agent: str, sock: socket.socket, rows: int, columns: int, history: bytes = b"") -> None: ...
    def drop(self, agent: str, reason: str) -> None: ...
    def events(self) -> Iterator[Mapping[str, Any]]: ...
    def close(self) -> None: ...


class NoStreams:
    """For work outside the runner: streams end with their sockets, nobody is told."""

    def push(self, key: str, stream: socket.socket, *, rows: int, columns: int, history: bytes = b"") -> None:
        stream.close()

    def drop(self, key: str, reason: str) -> None:
        pass


class Streams:
    """Keeps a connection to the terminals process, and a stream there for each agent that runs.

    `push` and `drop` may be called from any thread. `ended` is called when a stream ended and no container runs.
    """

    def __init__(self, engines: Engines, *, feed: Feed, ended: Callable[[], None]) -> None:
        self._engines = engines
        self._feed = feed
        self._ended = ended
        self._stop = threading.Event()
        self._wanted: dict[str, float] = {}  # agents that need a stream, and when to try
        self._changed = threading.Event()
        self._containers: dict[str, str] = {}  # ids seen lately, to resize without a search
        self._threads = [
            threading.Thread(target=self._listen, name="feed", daemon=True),
            threading.Thread(target=self._attach_wanted, name="feed-attach", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._changed.set()
        self._feed.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def push(self, key: str, stream: socket.socket, *, rows: int, columns: int, history: bytes = b"") -> None:
        """While terminals is away the stream is only closed: another is made when it is back."""
        try:
            self._feed.push(key, stream, rows, columns, history)
        except FeedLost as error:
            logger.warning("agent %s: stream not handed over: %s", key, error)

    def drop(self, key: str, reason: str) -> None:
        self._wanted.pop(key, None)
        self._containers.pop(key, None)
        try:
            self._feed.drop(key, reason)
        except FeedLost as error:
            logger.warning("agent %s: terminals not told of its end: %s", key, error)

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._feed.connect()
                self._catch_up(self._feed.streams())
                for event in self._feed.events():
                    self._handle(event)
            except FeedLost as error:
                if not self._stop.is_set():
                    logger.info("%s", error)
            except Exception:
                logger.exception("feed")
            finally:
                connections.close_all()
            self._stop.wait(RETRY_AFTER)

    def _catch_up(self, known: set[str]) -> None:
        """Agents that run and have no stream there get one; streams of agents that are over are dropped."""
        close_old_connections()
        going = (AgentStatus.RUNNING, AgentStatus.STARTING)
        keys = set(Agent.objects.filter(state__in=going).values_list("key", flat=True))
        for key in known - keys:
            self.drop(key, "The agent has ended.")
        for key in keys - known:
            self._want(key, after=0)

    def _handle(self, event: Mapping[str, Any]) -> None:
        key = event["agent"]
        if event["event"] == "resize":
            self._resize(key, rows=event["rows"], columns=event["columns"])
        else:
            self._want(key, after=0)

    def _resize(self, key: str, *, rows: int, columns: int) -> None:
        """Every one of them, in order: two in a row make a program draw anew."""
        engine = self._engines.engine
        try:
            if known := self._containers.get(key):
                with contextlib.suppress(NotFound):
                    engine.resize(known, rows=rows, columns=columns)
                    return
            if (container := self._running(key)) is not None:
                engine.resize(container.id, rows=rows, columns=columns)
        except EngineError as error:
            logger.info("agent %s: not resized: %s", key, error.message)

    def _want(self, key: str, *, after: float) -> None:
        self._wanted[key] = time.monotonic() + after
        self._changed.set()

    def _attach_wanted(self) -> None:
        while not self._stop.is_set():
            self._changed.wait(timeout=RETRY_AFTER if self._wanted else None)
            self._changed.clear()
            for key, when in list(self._wanted.items()):
                if when <= time.monotonic() and not self._stop.is_set():
                    self._wanted.pop(key, None)
                    self._attach(key)

    def _attach(self, key: str) -> None:
        engine = self._engines.engine
        try:
            container = self._running(key)
            if container is None:
                self._ended()
                return
            stream = engine.attach(container.id)
            # Attached first, so that nothing is lost in between; terminals shows nothing twice.
            history = engine.logs(container.id, most=HISTORY)
            self.push(key, stream, rows=ROWS, columns=COLUMNS, history=history)
            logger.info("agent %s: attached again", key)
        except EngineError as error:
            logger.warning("agent %s: not attached: %s", key, error.message)
            self._want(key, after=RETRY_AFTER)
        except Exception:
            logger.exception("agent %s: attach", key)

    def _running(self, key: str) -> ContainerInfo | None:
        found = (one for one in self._engines.engine.containers() if one.labels.get(LABEL_AGENT) == key)
        running = next((one for one in found if one.status in ("running", "paused")), None)
        if running is not None:
            self._containers[key] = running.id
        return running
