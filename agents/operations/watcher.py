"""The threads that notice what happens to containers, and make rows and containers agree."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import connections

from agents.engine.errors import EngineError
from agents.operations import links, retention
from agents.operations.engines import Engines
from agents.operations.reconcile import reconcile
from agents.operations.streams import StreamSink

logger = logging.getLogger(__name__)

EVERY = 60.0  # seconds
AFTER_FAILURE = 2.0
ENDS = frozenset({"die", "destroy", "oom"})


class Watcher:
    """Reconciles at start, after events of containers that end, when asked to, and each minute."""

    def __init__(self, engines: Engines, *, streams: StreamSink, after: Callable[[], None]) -> None:
        self._engines = engines
        self._streams = streams
        self._after = after  # called after each pass: it may have queued work
        self._forget_at = 0.0
        self._stop = threading.Event()
        self._due = threading.Event()
        self._threads = [
            threading.Thread(target=self._listen, name="engine-events", daemon=True),
            threading.Thread(target=self._loop, name="reconcile", daemon=True),
        ]

    def start(self) -> None:
        self._due.set()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._due.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def look(self) -> None:
        """Reconcile soon."""
        self._due.set()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                for event in self._engines.engine.events(stop=self._stop.is_set):
                    if event.action in ENDS:
                        self._due.set()
            except EngineError as error:
                logger.warning("no events: %s", error.message)
            except Exception:
                logger.exception("events")
            self._due.set()  # something may have happened while nobody listened
            self._stop.wait(AFTER_FAILURE)

    def _loop(self) -> None:
        wait = EVERY
        try:
            while not self._stop.is_set():
                self._due.wait(timeout=wait)
                self._due.clear()
                if not self._stop.is_set():
                    wait = EVERY if self._pass() else AFTER_FAILURE
        finally:
            connections.close_all()

    def _forget_old(self) -> None:
        if time.monotonic() > self._forget_at:
            while max(retention.forget_old()) == retention.MOST:
                pass
            self._forget_at = time.monotonic() + retention.EVERY

    def _pass(self) -> bool:
        try:
            reconcile(self._engines, streams=self._streams)
            links.follow(self._engines)
            self._after()
            self._forget_old()
        except EngineError as error:
            logger.warning("not reconciled: %s", error.message)
            return False
        except Exception:
            logger.exception("reconcile")
            connections.close_all()
            return False
        return True
