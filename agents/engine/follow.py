"""Long answers of the engine (build output, events) read in a thread of their own, so that their reader can give up."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

import requests
from docker import DockerClient

from agents.engine.errors import EngineError
from agents.engine.sdk import Pool, translated

MOST_WAITING = 4096  # items read ahead; then the engine waits
JOIN_SECONDS = 3.0


class Ended(Exception):
    """The answer is complete."""


class Follower:
    """Runs `ask(client)` in a thread with a client of its own and hands out what it yields.

    `params` are added to each request's query: the SDK does not know all of the engine's.
    """

    def __init__(
        self,
        pool: Pool,
        ask: Callable[[DockerClient], Iterable[Any]],
        *,
        what: str,
        params: dict[str, str] | None = None,
    ) -> None:
        self._client = pool.fresh()
        self._what = what
        self._items: queue.Queue[Any] = queue.Queue(MOST_WAITING)
        self._response: requests.Response | None = None
        self._closed = threading.Event()
        self.answered = threading.Event()  # the engine's header has come, or the request has failed
        session = self._client.api
        session.params = params or {}
        session.hooks["response"].append(self._note)
        self._thread = threading.Thread(target=self._run, args=(ask,), name=f"follow {what}", daemon=True)
        self._thread.start()

    def get(self, *, timeout: float) -> Any:
        """The next item. Raises TimeoutError when none comes in time, Ended after the last, our errors."""
        try:
            item = self._items.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(self._what) from None
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Cut the connection, which makes the engine stop its work; idempotent."""
        self._closed.set()
        self._hang_up()
        with contextlib.suppress(queue.Empty):
            while True:  # the thread may wait for room
                self._items.get_nowait()
        self._thread.join(JOIN_SECONDS)

    def _note(self, response: requests.Response, *_args: Any, **_kwargs: Any) -> None:
        self._response = response
        self.answered.set()
        if self._closed.is_set():
            self._hang_up()

    def _hang_up(self) -> None:
        if self._response is not None:
            with contextlib.suppress(Exception):
                self._response.raw.shutdown()  # wakes the reading thread, which then closes

    def _run(self, ask: Callable[[DockerClient], Iterable[Any]]) -> None:
        try:
            with translated(self._what):
                for item in ask(self._client):
                    if not self._put(item):
                        return
            self._put(Ended())
        except EngineError as error:
            self._put(error)
        except Exception as error:
            self._put(error)
        finally:
            self.answered.set()
            if self._response is not None:
                self._response.close()
            self._client.close()

    def _put(self, item: Any) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=0.5)
                return True
        return False
