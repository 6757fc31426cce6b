"""Freezing an agent for a moment, and thawing it whatever happens."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator

from agents.engine.errors import EngineError
from agents.engine.types import LABEL_AGENT, ContainerInfo
from agents.models import Operation, OperationKind, OperationState
from agents.operations import cleanup, leases
from agents.operations.engines import Engines

logger = logging.getLogger(__name__)

FREEZERS = (OperationKind.SNAPSHOT,)


@contextlib.contextmanager
def frozen(engines: Engines, key: str) -> Iterator[None]:
    """Freeze all containers of the agent `key`, its sidecar's too; they are thawed at the end, however it comes."""
    running = [one for one in cleanup.containers_of(engines, key) if one.status in ("running", "paused")]
    try:
        for container in running:
            engines.engine.pause(container.id)
        yield
    finally:
        _thaw(engines, running)


def thaw(engines: Engines, key: str) -> None:
    """Thaw what an earlier attempt left frozen. Raises EngineUnreachable."""
    _thaw(engines, [one for one in cleanup.containers_of(engines, key) if one.status == "paused"])


def thaw_forgotten(engines: Engines, containers: Iterable[ContainerInfo]) -> None:
    """Thaw each frozen container that no snapshot under way holds; `containers` were listed before this call."""
    for container in containers:
        if container.status != "paused" or _is_held(container.labels.get(LABEL_AGENT, "")):
            continue
        logger.warning("container %s was left frozen; thawing it", container.name)
        _thaw(engines, [container])


def _is_held(key: str) -> bool:
    held = Operation.objects.filter(
        kind__in=FREEZERS, state=OperationState.RUNNING, agent_state__agents__key=key
    ).values_list("lease_owner", flat=True)
    return any(leases.is_alive(token) for token in held)


def _thaw(engines: Engines, containers: list[ContainerInfo]) -> None:
    """Try each; what cannot be thawed now is looked at again each minute."""
    for container in containers:
        try:
            engines.engine.unpause(container.id)
        except EngineError as error:
            logger.warning("container %s stays frozen for now: %s", container.name, error.message)
