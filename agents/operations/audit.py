"""Writing audit events: in the transaction of what they tell, bounded, never with a secret."""

from __future__ import annotations

import datetime

from django.utils import timezone

from agents.models import Agent, AuditEvent, Operation, User
from agents.operations.text import shortened

SYSTEM = "system"
QUIET = datetime.timedelta(minutes=1)

Detail = dict[str, str | int | float | bool | None]


def actor_name(actor: User | str | None) -> str:
    if actor is None:
        return SYSTEM
    return actor if isinstance(actor, str) else actor.get_username()


def record(
    action: str,
    *,
    actor: User | str | None,
    outcome: str = AuditEvent.Outcome.DONE,
    agent: Agent | None = None,
    operation: Operation | None = None,
    summary: str = "",
    detail: Detail | None = None,
) -> AuditEvent:
    """Add one event. Call it inside the transaction of the change."""
    return AuditEvent.objects.create(
        actor=actor_name(actor)[:64],
        action=action,
        outcome=outcome,
        agent_key=agent.key if agent else "",
        operation_id=operation.id.hex if operation else "",
        summary=shortened(summary, most=1000),
        detail={name: _bounded(value) for name, value in (detail or {}).items()},
    )


def record_refusal(
    action: str,
    *,
    actor: User | str | None,
    agent: Agent | None = None,
    operation: Operation | None = None,
    summary: str = "",
    detail: Detail | None = None,
) -> None:
    """Add a refusal, once a minute for the same person, action and thing."""
    record_once_a_minute(
        action,
        actor=actor,
        outcome=AuditEvent.Outcome.REFUSED,
        agent=agent,
        operation=operation,
        summary=summary,
        detail=detail,
    )


def record_once_a_minute(
    action: str,
    *,
    actor: User | str | None,
    outcome: str = AuditEvent.Outcome.DONE,
    agent: Agent | None = None,
    operation: Operation | None = None,
    summary: str = "",
    detail: Detail | None = None,
) -> None:
    """For what anybody can repeat without end: doing it again must not fill the disk."""
    same = AuditEvent.objects.filter(
        actor=actor_name(actor)[:64],
        action=action,
        outcome=outcome,
        agent_key=agent.key if agent else "",
        summary=shortened(summary, most=1000),
        at__gte=timezone.now() - QUIET,
    )
    if not same.exists():
        record(action, actor=actor, outcome=outcome, agent=agent, operation=operation, summary=summary, detail=detail)


def _bounded(value: str | int | float | bool | None) -> str | int | float | bool | None:
    return shortened(value, most=1000) if isinstance(value, str) else value
