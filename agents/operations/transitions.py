"""The allowed moves of agents and operations: one table each, one conditional UPDATE, one audit event with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from agents.models import Agent, AgentStatus, AuditEvent, Operation, OperationState, User
from agents.operations import audit
from agents.operations.errors import Conflict
from agents.operations.text import shortened

# target: from which states it may be reached
AGENT_MOVES: Final[Mapping[str, frozenset[str]]] = {
    AgentStatus.RUNNING: frozenset({AgentStatus.STARTING}),
    AgentStatus.EJECTING: frozenset({AgentStatus.RUNNING}),
    AgentStatus.ENDED: frozenset({AgentStatus.STARTING, AgentStatus.RUNNING, AgentStatus.EJECTING}),
    AgentStatus.FAILED: frozenset({AgentStatus.STARTING}),
}
OPERATION_MOVES: Final[Mapping[str, frozenset[str]]] = {
    OperationState.RUNNING: frozenset({OperationState.QUEUED, OperationState.RUNNING}),  # the second: a lost lease
    OperationState.SUCCEEDED: frozenset({OperationState.RUNNING}),
    OperationState.FAILED: frozenset({OperationState.QUEUED, OperationState.RUNNING}),
    OperationState.CANCELLED: frozenset({OperationState.QUEUED, OperationState.RUNNING}),
}


def move_agent(
    agent: Agent,
    to: str,
    *,
    actor: User | str | None,
    operation: Operation | None = None,
    reason: str = "",
    **fields: Any,
) -> None:
    """Move `agent` to the state `to` and say so in the audit; raises Conflict when the table does not allow it.

    `fields` are set by the same UPDATE. Afterwards `agent` holds the new values.
    """
    now = timezone.now()
    values: dict[str, Any] = {"state": to, **fields}
    if to == AgentStatus.RUNNING:
        values["started_at"] = now
    if to in (AgentStatus.ENDED, AgentStatus.FAILED):
        values |= {"ended_at": now, "end_reason": shortened(reason, most=1000)}
    with transaction.atomic():
        if not Agent.objects.filter(pk=agent.pk, state__in=AGENT_MOVES[to]).update(**values):
            current = Agent.objects.filter(pk=agent.pk).values_list("state", flat=True).first()
            raise Conflict(f"{agent.name} is {current or 'gone'}: it cannot become {to}.")
        audit.record(
            f"agent.{to}",
            actor=actor,
            outcome=AuditEvent.Outcome.FAILED if to == AgentStatus.FAILED else AuditEvent.Outcome.DONE,
            agent=agent,
            operation=operation,
            summary=reason,
        )
    for name, value in values.items():
        setattr(agent, name, value)


def move_operation(
    operation: Operation,
    to: str,
    *,
    actor: User | str | None,
    only_if: Mapping[str, Any] | None = None,
    **fields: Any,
) -> bool:
    """Move `operation` to `to`; False when its state or `only_if` (say, the lease) did not allow it.

    An end clears the lease, and is written to the audit.
    """
    values: dict[str, Any] = {"state": to, **fields}
    over = to in (OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED)
    if over:
        values |= {"finished_at": timezone.now(), "lease_owner": "", "lease_until": None}
    with transaction.atomic():
        rows = Operation.objects.filter(pk=operation.pk, state__in=OPERATION_MOVES[to], **(only_if or {}))
        if not rows.update(**values):
            return False
        if over:
            audit.record(
                f"operation.{operation.kind}.{to}",
                actor=actor,
                outcome=AuditEvent.Outcome.FAILED if to == OperationState.FAILED else AuditEvent.Outcome.DONE,
                agent=operation.agent,
                operation=operation,
                summary=str(fields.get("error", "")),
            )
    for name, value in values.items():
        setattr(operation, name, value)
    return True
