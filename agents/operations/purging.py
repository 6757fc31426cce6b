"""Asking for states and snapshots to be purged: each is an operation of its own, those asked for together a batch."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Sequence

from django.db import IntegrityError, transaction

from agents.models import AgentState, AgentStatus, Operation, OperationKind, StateSnapshot, User
from agents.operations import audit, gateway
from agents.operations import snapshots as kept_snapshots
from agents.operations import states as kept_states
from agents.operations.errors import Conflict, NotFound, Refused, Unavailable
from agents.operations.launch import add_steps
from agents.operations.lifecycle import queue_eject
from agents.operations.permissions import Action

MOST_AT_ONCE = 100  # their names travel in one address
STATE_STEPS = ("purge-check", "purge-eject", "purge")
SNAPSHOT_STEPS = ("purge-check", "purge")


def request_purge(
    user: User,
    *,
    states: Sequence[str] = (),
    snapshots: Sequence[str] = (),
    eject: bool = False,
    shown: str | None = None,
) -> list[Operation]:
    """Queue the purge of states and snapshots, named by their keys; all of them or none.

    From now on nothing else can be begun with them. `eject` ends the agents that use a state first; `shown` is the
    `digest` of what the person saw: nothing else goes.
    Raises NotFound, Conflict (in use, busy, too many, changed since it was shown).
    """
    if len(states) + len(snapshots) > MOST_AT_ONCE:
        raise Conflict(f"At most {MOST_AT_ONCE} can be purged at once.")
    # Before the transaction, too: a refusal is written down, and stays.
    kept_states.get_states(user, states, action=Action.PURGE_STATE)
    kept_snapshots.get_snapshots(user, snapshots, action=Action.PURGE_SNAPSHOT)
    batch = secrets.token_hex(16)
    try:
        with transaction.atomic(durable=True):
            found = kept_states.get_states(user, states, action=Action.PURGE_STATE)
            stored = kept_snapshots.get_snapshots(user, snapshots, action=Action.PURGE_SNAPSHOT)
            if shown is not None and digest(found, stored) != shown:
                raise Conflict("What will go has changed since it was shown.", remedy="Look at it again.")
            made = [_purge_state(user, state, batch, eject=eject) for state in found]
            made += [_purge_snapshot(user, snapshot, batch) for snapshot in stored]
    except IntegrityError:
        raise Conflict("Something else was begun with one of them meanwhile.", remedy="Look again.") from None
    with contextlib.suppress(Unavailable):
        gateway.wake()
    return made


def purge_all_of(owner: User, *, by: User | None) -> list[Operation]:
    """Queue the purge of all that a person keeps who was deleted, agents that still end included.

    `by` is None for root. Raises Refused for anybody else's, Conflict.
    """
    if owner.deleted_at is None:
        raise Refused(f"{owner.get_username()} was not deleted.")
    batch = secrets.token_hex(16)
    try:
        with transaction.atomic(durable=True):
            kept = owner.agent_states.filter(phase=AgentState.Phase.KEPT)
            made = [_purge_state(by, state, batch, eject=True) for state in kept]
            stored = owner.state_snapshots.filter(phase=StateSnapshot.Phase.KEPT)
            made += [_purge_snapshot(by, snapshot, batch) for snapshot in stored]
    except IntegrityError:
        raise Conflict("Something is under way with one of their states.", remedy="Purge them in a moment.") from None
    with contextlib.suppress(Unavailable):
        gateway.wake()
    return made


def digest(states: Sequence[AgentState], snapshots: Sequence[StateSnapshot]) -> str:
    """Stands for all that the page says of what will go: names, owners, sizes, logins, and whether an agent runs."""
    fields = ("key", "name", "owner_id", "size", "entries", "has_logins", "in_use")  # the last one is an annotation
    said = [tuple(getattr(one, name, None) for name in fields) for one in states]
    said += [(one.key, one.owner_id, one.size, one.with_logins) for one in snapshots]
    return hashlib.sha256(repr(said).encode()).hexdigest()


def batch_of(user: User, batch: str) -> list[Operation]:
    """The operations of one request, in order. Raises NotFound for a batch that is not the person's own."""
    rows = Operation.objects.filter(kind=OperationKind.PURGE, request__batch=str(batch), requested_by=user)
    found = list(rows.select_related("agent_state", "snapshot").order_by("created_at", "pk"))
    if not found:
        raise NotFound
    return found


def _purge_state(user: User | None, state: AgentState, batch: str, *, eject: bool) -> Operation:
    agent = kept_states.user_of(state)
    if agent is not None and not eject:
        raise Conflict(f"{agent.name} uses its state.", remedy="Eject it first, or choose “eject and purge”.")
    if agent is not None and agent.state == AgentStatus.STARTING:
        raise Conflict(f"{agent.name} is being launched.", remedy="Cancel its launch, or wait.")
    if not AgentState.objects.filter(pk=state.pk, phase=AgentState.Phase.KEPT).update(phase=AgentState.Phase.PURGING):
        raise Conflict(f"{state.name} is being purged already.")
    if agent is not None and agent.state == AgentStatus.RUNNING:
        queue_eject(agent, requested_by=user)
    operation = _queue(user, batch, name=state.name, agent_state=state, steps=STATE_STEPS)
    owner = state.owner.get_username()
    audit.record(Action.PURGE_STATE, actor=user, operation=operation, summary=f"{state.name} of {owner}")
    return operation


def _purge_snapshot(user: User | None, snapshot: StateSnapshot, batch: str) -> Operation:
    kept = StateSnapshot.objects.filter(pk=snapshot.pk, phase=StateSnapshot.Phase.KEPT)
    if not kept.update(phase=StateSnapshot.Phase.PURGING):
        raise Conflict(f"The snapshot {snapshot} is {snapshot.phase}.")
    operation = _queue(user, batch, name=str(snapshot), snapshot=snapshot, steps=SNAPSHOT_STEPS)
    summary = f"{snapshot} of {snapshot.owner.get_username()}"
    audit.record(Action.PURGE_SNAPSHOT, actor=user, operation=operation, summary=summary)
    return operation


def _queue(
    user: User | None,
    batch: str,
    *,
    name: str,
    steps: tuple[str, ...],
    agent_state: AgentState | None = None,
    snapshot: StateSnapshot | None = None,
) -> Operation:
    operation = Operation.objects.create(
        kind=OperationKind.PURGE,
        requested_by=user,
        agent_state=agent_state,
        snapshot=snapshot,
        request={"batch": batch, "what": name},
    )
    add_steps(operation, steps)
    return operation
