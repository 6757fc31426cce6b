"""Asking for an agent's end, and for an operation to be stopped."""

from __future__ import annotations

import contextlib
import uuid

from django.db import transaction

from agents.models import (
    OPEN_STATES,
    Agent,
    AgentStatus,
    Operation,
    OperationKind,
    OperationState,
    OperationStep,
    User,
)
from agents.operations import audit, gateway, selectors, states
from agents.operations.errors import Conflict, Unavailable
from agents.operations.launch import add_steps
from agents.operations.permissions import Action
from agents.operations.transitions import move_agent, move_operation

CANCELLABLE = frozenset(
    {
        OperationKind.LAUNCH,
        OperationKind.SNAPSHOT,
        OperationKind.RESTORE,
        OperationKind.COPY_IMAGE,
        OperationKind.EXILE,
    }
)
EJECT_STEPS = ("stop", "remove")


def request_eject(user: User, key: str) -> Operation:
    """Queue the eject of a running agent and return it; one that starts has its launch cancelled instead.

    Idempotent while it is under way. Raises NotFound, Conflict once it has ended.
    """
    agent = selectors.get_agent(user, key, action=Action.EJECT_AGENT)
    if agent.state == AgentStatus.STARTING and (launch := _open(agent, OperationKind.LAUNCH)):
        return request_cancel(user, launch.id)
    if agent.state == AgentStatus.EJECTING and (under_way := _open(agent, OperationKind.EJECT)):
        return under_way
    if agent.state in (AgentStatus.ENDED, AgentStatus.FAILED):
        raise Conflict(f"{agent.name} has ended already.")
    with transaction.atomic(durable=True):
        operation = queue_eject(agent, requested_by=user)
    with contextlib.suppress(Unavailable):
        gateway.wake(operation.id)
    return operation


def queue_eject(agent: Agent, *, requested_by: User | None) -> Operation:
    """Move `agent` to EJECTING (unless it is) and add the operation; inside the caller's transaction."""
    operation = Operation(kind=OperationKind.EJECT, agent=agent, requested_by=requested_by, state=OperationState.QUEUED)
    if agent.state != AgentStatus.EJECTING:
        move_agent(agent, AgentStatus.EJECTING, actor=requested_by, operation=operation)
    operation.save(force_insert=True)
    add_steps(operation, EJECT_STEPS)
    audit.record(Action.EJECT_AGENT, actor=requested_by, agent=agent, operation=operation, summary=agent.name)
    return operation


def request_cancel(user: User, operation_id: uuid.UUID | str) -> Operation:
    """Stop an operation: at once when it is queued, else within seconds, whatever it waits for; returns it.

    Raises NotFound, Conflict when it is over or cannot be stopped (an eject and a purge go on to their end; of an
    exile only the rest is left alone).
    """
    operation = selectors.get_operation(user, operation_id, action=Action.CANCEL_OPERATION)
    if operation.kind not in CANCELLABLE:
        audit.record_refusal(
            Action.CANCEL_OPERATION, actor=user, agent=operation.agent, operation=operation, summary=operation.kind
        )
        raise Conflict(
            f"This cannot be cancelled: {operation.kind} goes on to its end.", remedy="Wait; it does not take long."
        )
    with transaction.atomic(durable=True):
        cancel_operation(operation, user)
    with contextlib.suppress(Unavailable):
        gateway.wake(operation.id)
    operation.refresh_from_db()
    return operation


def cancel_operation(operation: Operation, actor: User | str | None) -> None:
    """End a queued operation, ask the worker of a running one; inside the caller's transaction. Raises Conflict."""
    reason = f"cancelled by {audit.actor_name(actor)}"
    still_queued = {"state": OperationState.QUEUED}
    if move_operation(operation, OperationState.CANCELLED, actor=actor, only_if=still_queued, cancel_requested=True):
        operation.steps.filter(state=OperationStep.State.WAITING).update(state=OperationStep.State.SKIPPED)
        if operation.kind == OperationKind.LAUNCH and operation.agent is not None:
            move_agent(operation.agent, AgentStatus.ENDED, actor=actor, operation=operation, reason=reason)
            states.forget_unused(operation.agent, operation)  # its row goes with the next sweep
        return
    if not Operation.objects.filter(pk=operation.pk, state=OperationState.RUNNING).update(cancel_requested=True):
        raise Conflict("It is over already.")
    audit.record(Action.CANCEL_OPERATION, actor=actor, agent=operation.agent, operation=operation, summary=reason)


def _open(agent: Agent, kind: str) -> Operation | None:
    return Operation.objects.filter(agent=agent, kind=kind, state__in=OPEN_STATES).first()
