"""Doing an eject: stop the container with grace, then remove everything of the agent."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

from django.db import transaction

from agents.engine.errors import EngineError
from agents.engine.types import LABEL_AGENT
from agents.models import (
    LIVE_STATES,
    OPEN_STATES,
    Agent,
    AgentStatus,
    Operation,
    OperationKind,
    OperationState,
    OperationStep,
    User,
)
from agents.operations import audit, cleanup, leases, policy
from agents.operations.engines import Engines
from agents.operations.errors import OperationError, Unavailable
from agents.operations.leases import LeaseLost
from agents.operations.lifecycle import queue_eject
from agents.operations.progress import Progress, explain, remedy_of
from agents.operations.streams import StreamSink
from agents.operations.transitions import move_agent, move_operation

logger = logging.getLogger(__name__)

GRACE = 10  # seconds between SIGTERM and SIGKILL
PATIENCE = 15  # seconds for launches under way to stop by themselves


def run_eject(operation: Operation, *, engines: Engines, streams: StreamSink) -> None:
    """Work on a taken eject until the agent has ended; replayable at any point. Raises LeaseLost.

    When it fails the agent stays EJECTING, and reconcile asks for another eject.
    """
    progress = Progress(operation)
    try:
        agent = policy.checked_eject(operation)
        with progress.step("stop"):
            for container in cleanup.containers_of(engines, agent.key):
                engines.engine.stop(container.id, grace=GRACE)
        with progress.step("remove", last=True):
            _remove(operation, agent, engines=engines, streams=streams, progress=progress)
    except LeaseLost:
        raise
    except Exception as error:
        if not isinstance(error, OperationError | EngineError):
            logger.exception("operation %s: eject failed", operation.id.hex)
        _fail(operation, error, progress)


def eject_all(engines: Engines, *, streams: StreamSink, actor: User | str | None = None) -> list[str]:
    """Eject every live agent, here and now, whoever owns it; returns a sentence for each that could not be."""
    Operation.objects.filter(state__in=OPEN_STATES, kind=OperationKind.LAUNCH).update(cancel_requested=True)
    _let_launches_stop()
    agents = list(Agent.objects.filter(state__in=LIVE_STATES).select_related("owner"))
    with ThreadPoolExecutor(max_workers=8) as pool:  # each may take its whole grace
        stopped = list(pool.map(lambda agent: _stop(agent, engines), agents))
    problems: list[str] = []
    for agent, sentence in zip(agents, stopped, strict=True):
        left = [sentence] if sentence else cleanup.remove_objects(engines, key=agent.key, launches=_launches_of(agent))
        if left:
            problems += [f"{agent.name}: {one}" for one in left]
            continue
        streams.drop(agent.key, "ejected")
        with transaction.atomic(durable=True):
            _close_open_operations(agent, actor)
            # A runner that still runs sees the container go, and may have been faster.
            if Agent.objects.filter(pk=agent.pk, state__in=LIVE_STATES).exists():
                move_agent(agent, AgentStatus.ENDED, actor=actor, reason="ejected when the service was stopped")
    return problems + _remove_unknown(engines, actor=actor)


def _remove_unknown(engines: Engines, *, actor: User | str | None) -> list[str]:
    """Agents that only the engine knows: reconcile leaves them alone, who asks for the end of all means them too."""
    try:
        seen = {one.labels.get(LABEL_AGENT, "") for one in engines.engine.containers()} - {""}
    except EngineError as error:
        return [error.message]
    problems: list[str] = []
    for key in sorted(seen - set(Agent.objects.filter(key__in=seen).values_list("key", flat=True))):
        if left := cleanup.remove_objects(engines, key=key):
            problems += [f"agent {key}: {one}" for one in left]
        else:
            audit.record("leftovers.remove", actor=actor, summary=f"agent {key}")
    return problems


def _let_launches_stop() -> None:
    """Wait for workers of a running runner to take away what their cancelled launches made."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        running = Operation.objects.filter(kind=OperationKind.LAUNCH, state=OperationState.RUNNING)
        if not any(leases.is_alive(token) for token in running.values_list("lease_owner", flat=True)):
            return
        time.sleep(0.2)


def _stop(agent: Agent, engines: Engines) -> str:
    """Stop the agent's containers; what went wrong, or nothing. Touches no database: it runs in a thread."""
    try:
        for container in cleanup.containers_of(engines, agent.key):
            engines.engine.stop(container.id, grace=GRACE)
    except EngineError as error:
        return error.message
    return ""


def _launches_of(agent: Agent) -> list[str]:
    return [found.hex for found in agent.operations.filter(kind=OperationKind.LAUNCH).values_list("id", flat=True)]


def queue_again(agent: Agent) -> None:
    """Another eject for an agent that is EJECTING while nobody works on it."""
    with transaction.atomic(durable=True):
        under_way = Operation.objects.filter(agent=agent, kind=OperationKind.EJECT, state__in=OPEN_STATES)
        if not under_way.exists() and Agent.objects.filter(pk=agent.pk, state=AgentStatus.EJECTING).exists():
            queue_eject(agent, requested_by=None)


def _remove(operation: Operation, agent: Agent, *, engines: Engines, streams: StreamSink, progress: Progress) -> None:
    if left := cleanup.remove_objects(engines, key=agent.key, launches=_launches_of(agent)):
        raise Unavailable("Not everything could be removed: " + " ".join(left), remedy="It is tried again each minute.")
    person = operation.requested_by
    reason = f"ejected by {person.get_username()}" if person else _reason(operation)
    streams.drop(agent.key, reason)
    with transaction.atomic(durable=True):
        mine = {"lease_owner": operation.lease_owner}
        if not move_operation(operation, OperationState.SUCCEEDED, actor=person, only_if=mine):
            raise LeaseLost
        if agent.state in LIVE_STATES:
            move_agent(agent, AgentStatus.ENDED, actor=person, operation=operation, reason=reason)
        progress.close_steps(running=OperationStep.State.SUCCEEDED)


def _reason(operation: Operation) -> str:
    """What the service itself gave as reason, if it can be read."""
    asked = operation.request if isinstance(operation.request, dict) else {}
    return f"ejected: {asked['because']}" if isinstance(asked.get("because"), str) else "ejected"


def _fail(operation: Operation, error: Exception, progress: Progress) -> None:
    with transaction.atomic(durable=True):
        moved = move_operation(
            operation,
            OperationState.FAILED,
            actor=operation.requested_by,
            only_if={"lease_owner": operation.lease_owner},
            error=explain(error),
            remedy=remedy_of(error),
            failed_step=operation.step,
        )
        if not moved:
            raise LeaseLost
        progress.close_steps(running=OperationStep.State.FAILED)


def _close_open_operations(agent: Agent, actor: User | str | None) -> None:
    for operation in Operation.objects.filter(agent=agent, state__in=OPEN_STATES):
        move_operation(operation, OperationState.CANCELLED, actor=actor, error="The service was stopped with --eject.")
