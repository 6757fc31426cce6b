"""Asking for the end of many agents at once: all of mine, all of one person, everybody's."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet

from agents.models import LIVE_STATES, OPEN_STATES, Agent, Operation, OperationKind, User
from agents.operations import audit, gateway, leases, permissions
from agents.operations.errors import Conflict, NotFound, Refused, Unavailable
from agents.operations.launch import add_steps
from agents.operations.lifecycle import cancel_operation
from agents.operations.permissions import Action


class Scope(enum.StrEnum):
    OWN = "own"
    PERSON = "person"
    EVERYONE = "everyone"


ACTIONS: Final[Mapping[Scope, Action]] = {
    Scope.OWN: Action.EXILE_OWN,
    Scope.PERSON: Action.EXILE_PERSON,
    Scope.EVERYONE: Action.EXILE_EVERYONE,
}


def request_exile(user: User, *, scope: Scope, person: str = "") -> Operation:
    """Queue the end of every live agent of `scope`; launches that are under way are cancelled with it.

    Idempotent while the same is under way. Raises Refused; NotFound for an unknown person; Conflict without agents.
    """
    permissions.check(user, ACTIONS[scope])
    request = _request(user, scope, person)
    with transaction.atomic(durable=True):
        for under_way in Operation.objects.filter(
            kind=OperationKind.EXILE, requested_by=user, state__in=OPEN_STATES, cancel_requested=False
        ):
            if under_way.request == request:
                return under_way
        operation = _create(request, requested_by=user, actor=user)
    with contextlib.suppress(Unavailable):
        gateway.wake(operation.id)
    return operation


def begin_exile(process: str, *, scope: Scope, person: str = "", actor: User | str | None) -> Operation:
    """The same for root at this machine, taken at once by the process that asks. Raises NotFound, Conflict."""
    request = _request(None, scope, person)
    with transaction.atomic(durable=True):
        return _create(request, requested_by=None, actor=actor, **leases.terms_of_new(process))


def checked_exile(operation: Operation) -> QuerySet[Agent]:
    """The live agents that an exile is about, if who asked for it may (still) have that. Raises Refused.

    Nobody, like root at this machine, may: so it is with ejects. Agents that came later are not meant.
    """
    scope, name = asked_for(operation)
    person = operation.requested_by
    if person is not None and not permissions.can(person, ACTIONS[scope]):
        raise Refused(f"{person.get_username()} may not do this (any more).")
    if scope == Scope.OWN and (person is None or name != person.get_username()):
        raise Refused("One's own agents are those of who asks.")
    return _agents(operation.request).filter(created_at__lte=operation.created_at)


def asked_for(operation: Operation) -> tuple[Scope, str]:
    """Scope and person of an exile's row. Raises Refused when it cannot be read."""
    request = operation.request if isinstance(operation.request, dict) else {}
    try:
        return Scope(str(request.get("scope"))), str(request.get("person", ""))
    except ValueError:
        raise Refused("What is to be ejected cannot be read.") from None


def exilable(user: User, *, scope: Scope, person: str = "") -> QuerySet[Agent]:
    """Whom an exile would end now, by name. Raises Refused, NotFound as `request_exile` does."""
    permissions.check(user, ACTIONS[scope])
    return _agents(_request(user, scope, person))


def _request(user: User | None, scope: Scope, person: str) -> dict[str, Any]:
    name = user.get_username() if user is not None and scope == Scope.OWN else person
    if scope != Scope.EVERYONE and not User.objects.filter(username=name).exists():
        raise NotFound
    return {"scope": str(scope), "person": "" if scope == Scope.EVERYONE else name}


def _agents(request: Mapping[str, Any]) -> QuerySet[Agent]:
    agents = Agent.objects.filter(state__in=LIVE_STATES).select_related("owner").order_by("name")
    everybody = request.get("scope") == Scope.EVERYONE
    return agents if everybody else agents.filter(owner__username=str(request.get("person", "")))


def _create(
    request: dict[str, Any], *, requested_by: User | None, actor: User | str | None, **fields: Any
) -> Operation:
    agents = list(_agents(request))
    if not agents:
        raise Conflict("There is no agent that could be ejected.")
    operation = Operation.objects.create(
        kind=OperationKind.EXILE,
        requested_by=requested_by,
        request=request,
        **fields,
    )
    add_steps(operation, tuple(agent.name for agent in agents))
    audit.record(
        ACTIONS[Scope(request["scope"])],
        actor=actor,
        operation=operation,
        summary=f"{len(agents)} agents: " + ", ".join(agent.name for agent in agents),
    )
    cancel_launches(agents, actor=actor)
    return operation


def cancel_launches(agents: list[Agent], *, actor: User | str | None) -> None:
    """Cancel what starts, at once or at its next look; inside the caller's transaction."""
    launches = Operation.objects.filter(
        agent__in=agents, kind=OperationKind.LAUNCH, state__in=OPEN_STATES, cancel_requested=False
    )
    for launch in launches.select_related("agent__owner"):
        with contextlib.suppress(Conflict):  # it has ended meanwhile
            cancel_operation(launch, actor)
