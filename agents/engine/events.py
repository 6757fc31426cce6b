"""The engine's events about our containers, as a blocking iterator that can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from docker import DockerClient

from agents.engine.errors import EngineUnreachable
from agents.engine.follow import Ended, Follower
from agents.engine.sdk import TIMEOUT, Pool
from agents.engine.types import LABEL_AGENT, LABEL_INSTANCE, EngineEvent

POLL_SECONDS = 0.5


def subscribe(pool: Pool, *, instance: str, stop: Callable[[], bool]) -> Iterator[EngineEvent]:
    """Events from now on: on return the engine listens, so what happens before the first `next` is not missed.

    Ends when `stop()` is true. Raises EngineUnreachable when the engine goes away; subscribe again, and compare
    rows with containers then: what happened between is not told later.
    """

    def ask(client: DockerClient) -> Iterator[dict[str, Any]]:
        filters = {"type": "container", "label": f"{LABEL_INSTANCE}={instance}"}
        stream: Iterator[dict[str, Any]] = client.events(filters=filters, decode=True)
        return stream

    follower = Follower(pool, ask, what="the engine's events")
    if not follower.answered.wait(TIMEOUT):
        follower.close()
        raise EngineUnreachable("The container engine does not tell its events.")
    return _events(follower, stop=stop)


def _events(follower: Follower, *, stop: Callable[[], bool]) -> Iterator[EngineEvent]:
    try:
        while not stop():
            try:
                item = follower.get(timeout=POLL_SECONDS)
            except TimeoutError:
                continue
            except Ended:
                raise EngineUnreachable("The container engine ended its stream of events.") from None
            yield event(item)
    finally:
        follower.close()


def event(item: dict[str, Any]) -> EngineEvent:
    """One message of the engine. `exec_start: /bin/sh` and the like keep only what stands before the colon."""
    actor = item.get("Actor") or {}
    return EngineEvent(
        action=str(item.get("Action") or item.get("status") or "").partition(":")[0],
        container=str(actor.get("ID") or item.get("id") or ""),
        agent=str((actor.get("Attributes") or {}).get(LABEL_AGENT) or ""),
    )
