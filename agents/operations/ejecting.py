"""Doing an eject: stop the container with grace, then remove everything of the agent."""

from __future__ import annotations

import logging

from django.db import transaction
from django.db.models import Q

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
from agents.operations.endings import fail_operation
from agents.operations.engines import Engines
from agents.operations.errors import Conflict, OperationError, Unavailable
from agents.operations.exile import Scope, begin_exile
from agents.operations.exiling import GRACE, failures_of, run_exile
from agents.operations.leases import LeaseLost
from agents.operations.lifecycle import queue_eject
from agents.operations.patience import Patience
from agents.operations.progress import Progress
from agents.operations.streams import StreamSink
from agents.operations.transitions import move_agent, move_operation

logger = logging.getLogger(__name__)


def run_eject(operation: Operation, *, engines: Engines, streams: StreamSink) -> None:
    """Work on a taken eject until the agent has ended; replayable at any point. Raises LeaseLost.

    When it fails the agent stays EJECTING, and reconcile asks for another eject.
    """
    progress = Progress(operation)
    engines = Patience(progress, in_place=engines.in_place).engines(engines)  # it gives signs of life while it waits
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
        fail_operation(operation, error, progress)


def eject_all(engines: Engines, *, streams: StreamSink, actor: User | str | None = None) -> list[str]:
    """Eject every live agent, here and now, whoever owns it; returns a sentence for each that could not be."""
    problems = exile_here(engines, streams=streams, scope=Scope.EVERYONE, actor=actor)
    return problems + _remove_unknown(engines, actor=actor)


def exile_here(
    engines: Engines, *, streams: StreamSink, scope: Scope, person: str = "", actor: User | str | None = None
) -> list[str]:
    """An exile in this very process, also while no runner works. Raises NotFound for an unknown person."""
    try:
        operation = begin_exile(leases.process_name(), scope=scope, person=person, actor=actor)
    except Conflict:  # there is none
        return []
    with leases.kept(operation):
        run_exile(operation, engines=engines, streams=streams, actor=actor)
    failures = failures_of(operation)
    return failures or ([operation.error] if operation.state == OperationState.FAILED else [])


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


def _launches_of(agent: Agent) -> list[str]:
    return [found.hex for found in agent.operations.filter(kind=OperationKind.LAUNCH).values_list("id", flat=True)]


def queue_again(agent: Agent) -> None:
    """Another eject for an agent that is EJECTING while nobody works on it."""
    with transaction.atomic(durable=True):
        ejects = Q(kind=OperationKind.EJECT, agent=agent) | Q(kind=OperationKind.EXILE)  # that ends it, or fails soon
        under_way = Operation.objects.filter(ejects, state__in=OPEN_STATES)
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
