"""Doing a purge: the agent has ended, the files go, then the row; what a kill interrupts is taken up again."""

from __future__ import annotations

import logging
import re
import time

from django.db import transaction

from agents.engine.errors import EngineError
from agents.models import (
    AgentState,
    AgentStatus,
    Operation,
    OperationKind,
    StateSnapshot,
    User,
)
from agents.operations import audit, permissions, states
from agents.operations.ejecting import queue_again
from agents.operations.endings import fail_operation, succeed_operation
from agents.operations.engines import Engines
from agents.operations.errors import OperationError, Refused, Unavailable
from agents.operations.leases import LeaseLost
from agents.operations.permissions import Action
from agents.operations.progress import Progress

logger = logging.getLogger(__name__)

SECONDS_FOR_EJECT = 180.0
MOST_CALLS = 1000  # of some seconds each
LOOK_EVERY = 0.3


def run_purge(operation: Operation, *, engines: Engines) -> None:
    """Work on a taken purge until nothing is left; replayable at any point. Raises LeaseLost.

    When it fails the row stays PURGING, and the sweep of each minute goes on with it.
    """
    progress = Progress(operation)
    try:
        with progress.step("purge-check"):
            target = _checked(operation)
        if isinstance(target, AgentState):
            _purge_state(operation, target, engines=engines, progress=progress)
        else:
            _purge_snapshot(operation, target, engines=engines, progress=progress)
    except LeaseLost:
        raise
    except Exception as error:
        if not isinstance(error, OperationError | EngineError):
            logger.exception("operation %s: purge failed", operation.id.hex)
        fail_operation(operation, error, progress)


def _checked(operation: Operation) -> AgentState | StateSnapshot | None:
    """What is purged, if who asked may: rows alone prove nothing. None when an earlier attempt has removed it.

    Raises Refused.
    """
    person, request = operation.requested_by, operation.request
    if operation.kind != OperationKind.PURGE or not isinstance(request, dict):
        raise Refused("This is no purge.")
    target = operation.agent_state or operation.snapshot
    if target is None:
        return None
    if not may_purge(person, target) or not re.fullmatch(r"[0-9a-f]{32}", target.key):
        raise Refused("The one who asked may not purge this.")
    if target.phase != type(target).Phase.PURGING:
        raise Refused("It is not marked for a purge.")
    return target


def may_purge(person: User | None, target: AgentState | StateSnapshot) -> bool:
    """Nobody asks where root has deleted a person together with what they kept."""
    action = Action.PURGE_STATE if isinstance(target, AgentState) else Action.PURGE_SNAPSHOT
    return target.owner.deleted_at is not None if person is None else permissions.can(person, action, target)


def may_go_on(target: AgentState | StateSnapshot) -> bool:
    """Whether a purge that came to no end may be gone on with by itself: who asked for the last one may purge it.

    The phase alone proves nothing: a purge that was refused leaves it behind.
    """
    last = target.operations.filter(kind=OperationKind.PURGE).order_by("-created_at").first()
    return last is not None and may_purge(last.requested_by, target)


def _purge_state(operation: Operation, state: AgentState, *, engines: Engines, progress: Progress) -> None:
    with progress.step("purge-eject"):
        _wait_for_end(state, progress)
    with progress.step("purge", last=True):
        removed = 0
        for _ in range(MOST_CALLS):
            progress.check()
            step = engines.broker.purge_state(state.key)
            removed += step.removed
            if step.done:
                break
            progress.log(f"{removed} entries deleted")
        else:
            raise Unavailable("It is not empty yet.", remedy="It is tried again each minute.")
        progress.log(f"{removed} entries deleted, nothing is left")
        progress.flush()
        with transaction.atomic(durable=True):
            states.delete_row(state, actor=operation.requested_by)
            succeed_operation(operation, progress)


def _wait_for_end(state: AgentState, progress: Progress) -> None:
    """Until no agent uses the state any more: its eject was asked for together with the purge."""
    until = time.monotonic() + SECONDS_FOR_EJECT
    while (agent := states.user_of(state)) is not None:
        progress.check()
        if agent.state == AgentStatus.EJECTING:
            queue_again(agent)
        if agent.state not in (AgentStatus.EJECTING, AgentStatus.RUNNING) or time.monotonic() > until:
            raise Unavailable(f"{agent.name} has not ended.", remedy="Eject it; the purge is tried again each minute.")
        time.sleep(LOOK_EVERY)


def _purge_snapshot(
    operation: Operation, snapshot: StateSnapshot | None, *, engines: Engines, progress: Progress
) -> None:
    with progress.step("purge", last=True):
        if snapshot is not None:
            engines.archive.remove(snapshot.key)
        with transaction.atomic(durable=True):
            if snapshot is not None:
                delete_snapshot_row(snapshot, actor=operation.requested_by)
            succeed_operation(operation, progress)


def delete_snapshot_row(snapshot: StateSnapshot, *, actor: User | None) -> None:
    """After its file; inside the caller's transaction."""
    gone, _ = StateSnapshot.objects.filter(pk=snapshot.pk, phase=StateSnapshot.Phase.PURGING).delete()
    if gone:
        audit.record("snapshot.purged", actor=actor, summary=f"{snapshot} of {snapshot.owner.get_username()}")
