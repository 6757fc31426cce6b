"""Reading for the pages: each function gives a person only what is theirs."""

from __future__ import annotations

import dataclasses
import os
import uuid
from pathlib import Path

from django.db.models import Q, QuerySet

from agents.models import LIVE_STATES, Agent, AgentClass, HostAccount, Operation, OperationLog
from agents.operations import permissions
from agents.operations.errors import NotFound
from agents.operations.permissions import Action, Person

MOST_PIECES = 64  # of output, kept for one operation
KEY = r"^[0-9a-f]{32}$"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachineLimits:
    """What one agent may be given at most; `memory_gb` in GiB."""

    cpus: int
    memory_gb: float
    pids: int


def agents_for(person: Person) -> QuerySet[Agent]:
    """All agents of the person, the newest first; slice it."""
    if not permissions.can(person, Action.LAUNCH):
        return Agent.objects.none()
    # A forged key would make addresses that do not exist, and so close the page with all the others.
    return Agent.objects.filter(owner_id=person.pk, key__regex=KEY).select_related("agent_class", "owner")


def live_agents_for(person: Person) -> QuerySet[Agent]:
    return agents_for(person).filter(state__in=LIVE_STATES)


def get_agent(person: Person, key: str, *, action: Action = Action.VIEW_AGENT) -> Agent:
    """The agent, if `person` may do `action` with it; otherwise NotFound."""
    agent = Agent.objects.select_related("agent_class", "owner").filter(key=str(key)).first()
    if agent is None:
        raise NotFound
    permissions.check(person, action, agent)
    return agent


def operations_for(person: Person) -> QuerySet[Operation]:
    """All operations of the person, the newest first; slice it."""
    if not permissions.can(person, Action.LAUNCH):
        return Operation.objects.none()
    whole = Q(agent__isnull=True) | Q(agent__key__regex=KEY)
    return Operation.objects.filter(whole, requested_by_id=person.pk).select_related("agent")


def get_operation(
    person: Person, operation_id: uuid.UUID | str, *, action: Action = Action.VIEW_OPERATION
) -> Operation:
    """The operation with its agent, if `person` may do `action` with it; otherwise NotFound."""
    try:
        wanted = operation_id if isinstance(operation_id, uuid.UUID) else uuid.UUID(operation_id)
    except ValueError:
        raise NotFound from None
    operation = Operation.objects.select_related("agent", "requested_by").filter(pk=wanted).first()
    if operation is None:
        raise NotFound
    permissions.check(person, action, operation)
    return operation


def operation_log(operation: Operation, *, since: int = 0, most: int = 200) -> list[OperationLog]:
    """The last `most` pieces of output after the piece `since`, in order."""
    return list(reversed(OperationLog.objects.filter(operation=operation, pk__gt=since).order_by("-pk")[:most]))


def log_was_cut(operation: Operation, pieces: list[OperationLog]) -> bool:
    """Whether earlier output is not among `pieces`, or is gone: as many are kept as one operation may have."""
    return len(pieces) >= MOST_PIECES


def classes_for(person: Person) -> QuerySet[AgentClass]:
    """The classes that the person may launch."""
    if not permissions.can(person, Action.LAUNCH):
        return AgentClass.objects.none()
    return AgentClass.objects.filter(enabled=True)


def host_account_of(person: Person) -> HostAccount | None:
    """The mirrored link; the truth is the broker's."""
    return HostAccount.objects.filter(user_id=person.pk).first() if person.is_authenticated else None


def machine_limits() -> MachineLimits:
    pids = int(Path("/proc/sys/kernel/pid_max").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return MachineLimits(
        cpus=len(os.sched_getaffinity(0)), memory_gb=round(memory / 2**30, 1), pids=min(pids // 2, 32768)
    )
