"""Asking for a snapshot of a state, and for one to be put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from agents.models import (
    LIVE_STATES,
    OPEN_STATES,
    Agent,
    AgentState,
    AgentStatus,
    Operation,
    OperationKind,
    StateSnapshot,
    User,
)
from agents.operations import audit, gateway, permissions
from agents.operations.errors import Conflict, NotFound, Unavailable
from agents.operations.launch import add_steps
from agents.operations.permissions import Action, Person
from agents.operations.text import shortened

MOST_SNAPSHOTS = 100  # of one person
KEY = r"^[0-9a-f]{32}$"
SNAPSHOT_STEPS = ("snapshot-check", "snapshot-copy", "snapshot-store")
RESTORE_STEPS = ("restore-check", "restore")
REPLACE_STEPS = ("restore-check", "snapshot-copy", "snapshot-store", "restore")


def snapshots_for(person: Person) -> QuerySet[StateSnapshot]:
    """What the person has kept, the newest first; slice it."""
    if not permissions.can(person, Action.LAUNCH):
        return StateSnapshot.objects.none()
    kept = StateSnapshot.objects.filter(owner_id=person.pk, key__regex=KEY, phase=StateSnapshot.Phase.KEPT)
    return kept.select_related("state", "agent_class")


def get_snapshot(person: Person, key: str, *, action: Action = Action.VIEW_SNAPSHOT) -> StateSnapshot:
    """The snapshot, if `person` may do `action` with it; otherwise NotFound."""
    found = StateSnapshot.objects.select_related("state", "owner", "agent_class").filter(key=str(key)).first()
    if found is None:
        raise NotFound
    permissions.check(person, action, found)
    return found


def get_snapshots(person: Person, keys: Sequence[str], *, action: Action) -> list[StateSnapshot]:
    """All of them, in order, if `person` may do `action` with each; otherwise NotFound."""
    rows = StateSnapshot.objects.select_related("state", "owner", "agent_class").filter(key__in=set(keys))
    found = {one.key: one for one in rows}
    if len(found) != len(set(keys)):
        raise NotFound
    for one in found.values():
        permissions.check(person, action, one)
    return [found[key] for key in dict.fromkeys(keys)]


def request_snapshot(user: User, state_key: str, *, with_logins: bool = False, reason: str = "") -> Operation:
    """Queue a snapshot of a state, whether an agent runs with it or not, and return it.

    Raises NotFound, Conflict (the state is busy, or there are too many snapshots).
    """
    state = _state(user, state_key, Action.SNAPSHOT_STATE)
    wanted = {"with_logins": bool(with_logins), "reason": shortened(reason, most=200)}
    with _queueing():
        agent = live_agent(state)
        if agent is not None and agent.state != AgentStatus.RUNNING:
            raise Conflict(f"{agent.name} is {agent.state}.", remedy="Try again in a moment.")
        check_quiet(state)
        _check_room(user)
        operation = Operation.objects.create(
            kind=OperationKind.SNAPSHOT, agent=agent, agent_state=state, requested_by=user, request=wanted
        )
        add_steps(operation, SNAPSHOT_STEPS)
        _note(Action.SNAPSHOT_STATE, user, operation, f"{state.name}, {'with' if with_logins else 'without'} logins")
    return _woken(operation)


def request_restore(user: User, snapshot_key: str, *, into: str = "", keep_logins: bool = False) -> Operation:
    """Queue putting a snapshot back: over the stopped agent's state `into`, or into a new state of its own.

    What is in `into` is snapshotted first, with its logins if `keep_logins`. Raises NotFound, Conflict.
    """
    snapshot = get_snapshot(user, snapshot_key, action=Action.RESTORE_SNAPSHOT)
    state = _state(user, into, Action.SNAPSHOT_STATE) if into else None
    with _queueing():
        if snapshot.phase != StateSnapshot.Phase.KEPT:
            raise Conflict(f"This snapshot is {snapshot.phase}.")
        if state is not None:
            check_replaceable(state, snapshot)
            check_quiet(state)
            _check_room(user)
        operation = Operation.objects.create(
            kind=OperationKind.RESTORE,
            agent_state=state,
            snapshot=snapshot,
            requested_by=user,
            request={"into": state.key if state else "", "keep_logins": bool(keep_logins)},
        )
        add_steps(operation, REPLACE_STEPS if state else RESTORE_STEPS)
        target = f"over {state.name}" if state else "into a new state"
        _note(Action.RESTORE_SNAPSHOT, user, operation, f"{snapshot}, {target}")
    return _woken(operation)


def live_agent(state: AgentState) -> Agent | None:
    """The owner's agent that has the state now."""
    return Agent.objects.filter(agent_state=state, owner_id=state.owner_id, state__in=LIVE_STATES).first()


def check_quiet(state: AgentState) -> None:
    """Raises Conflict while something else happens to the state."""
    if state.phase != AgentState.Phase.KEPT:
        raise Conflict(f"{state.name} is {state.phase}.")
    if busy := Operation.objects.filter(agent_state=state, state__in=OPEN_STATES).first():
        raise Conflict(f"A {busy.kind} of {state.name} is under way.", remedy="Wait until it has ended.")


def check_replaceable(state: AgentState, snapshot: StateSnapshot) -> None:
    """Raises Conflict unless the snapshot may take the place of what the state holds now."""
    if agent := Agent.objects.filter(agent_state=state, state__in=LIVE_STATES).first():
        raise Conflict(f"{agent.name} uses this state.", remedy="Eject it first, or restore into a new state.")
    if state.agent_class_id != snapshot.agent_class_id:
        raise Conflict(f"{state.name} is of another agent class.", remedy="Restore into a new state.")


def _state(person: Person, key: str, action: Action) -> AgentState:
    found = AgentState.objects.select_related("owner", "agent_class").filter(key=str(key)).first()
    if found is None:
        raise NotFound
    permissions.check(person, action, found)
    return found


def _check_room(user: User) -> None:
    if StateSnapshot.objects.filter(owner=user).count() >= MOST_SNAPSHOTS:
        raise Conflict(f"You have {MOST_SNAPSHOTS} snapshots, the most allowed.", remedy="Purge some first.")


@contextlib.contextmanager
def _queueing() -> Iterator[None]:
    """One transaction; whoever was faster makes it a Conflict."""
    try:
        with transaction.atomic(durable=True):
            yield
    except IntegrityError:
        raise Conflict("Something else was begun with it meanwhile.", remedy="Wait until it has ended.") from None


def _note(action: Action, user: User, operation: Operation, summary: str) -> None:
    audit.record(action, actor=user, agent=operation.agent, operation=operation, summary=summary)


def _woken(operation: Operation) -> Operation:
    with contextlib.suppress(Unavailable):
        gateway.wake(operation.id)
    return operation
