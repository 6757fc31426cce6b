"""Removing what an agent has on the engine and the host, found by label; every piece is tried, whatever fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from agents.engine.errors import EngineError
from agents.engine.types import LABEL_AGENT, LABEL_OPERATION, ContainerInfo
from agents.operations.engines import Engines

logger = logging.getLogger(__name__)

MOST_PURGES = 5  # calls for a state that nothing ever used


def containers_of(engines: Engines, key: str) -> list[ContainerInfo]:
    """All containers that carry the agent's label."""
    return [one for one in engines.engine.containers() if one.labels.get(LABEL_AGENT) == key]


def container_of_operation(engines: Engines, *, key: str, operation: str) -> ContainerInfo | None:
    """The container that the operation made for the agent, or None."""
    found = containers_of(engines, key)
    return next((one for one in found if one.labels.get(LABEL_OPERATION) == operation), None)


def remove_objects(
    engines: Engines, *, key: str, launches: Iterable[str] = (), states: Iterable[str] = ()
) -> list[str]:
    """Remove containers and networks of the agent `key`, the staging of `launches`, then `states`; idempotent.

    Returns a sentence for each piece that could not be removed.
    """
    left: list[str] = []
    _try(left, lambda: _remove_containers(engines, key))
    _try(left, lambda: _remove_networks(engines, key))
    for launch in launches:
        _try(left, lambda launch=launch: engines.broker.release(launch))  # type: ignore[misc]
    for state in states if not left else ():
        _try(left, lambda state=state: _purge(engines, state))  # type: ignore[misc]
    for sentence in left:
        logger.warning("agent %s: not removed: %s", key, sentence)
    return left


def _remove_containers(engines: Engines, key: str) -> None:
    for container in containers_of(engines, key):
        engines.engine.remove_container(container.id)


def _remove_networks(engines: Engines, key: str) -> None:
    for name, agent in engines.engine.networks().items():
        if agent == key:
            engines.engine.remove_network(name)


def _purge(engines: Engines, state: str) -> None:
    for _ in range(MOST_PURGES):
        if engines.broker.purge_state(state).done:
            return
    raise EngineError(f"The state {state} is not empty yet.")


def _try(left: list[str], action: Callable[[], None]) -> None:
    try:
        action()
    except EngineError as error:
        left.append(error.message)
