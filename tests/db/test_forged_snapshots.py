"""Other people's snapshots, and rows that somebody else than our code wrote."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import pytest

from agents.models import AgentState, AuditEvent, Operation, StateSnapshot, User
from agents.operations import snapshots
from agents.operations.errors import Conflict, NotFound
from tests import factories
from tests.db.conftest import World
from tests.db.snapshot_kit import killed_at, running, state, status, taken  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("who", ["bob", "admin", "stranger"])
def test_somebody_elses_are_not_there(
    world: World, gate: object, state: AgentState, who: str, request: pytest.FixtureRequest
) -> None:
    person = request.getfixturevalue(who)
    made = taken(world, state)
    for attempt in (
        lambda: snapshots.request_snapshot(person, state.key),
        lambda: snapshots.request_restore(person, made.key),
        lambda: snapshots.get_snapshot(person, made.key),
        lambda: snapshots.request_restore(person, "0" * 32),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert not snapshots.snapshots_for(person).exists()
    assert list(snapshots.snapshots_for(state.owner)) == [made]


def test_nobody_restores_over_a_colleagues_state(world: World, gate: object, state: AgentState, bob: User) -> None:
    made = taken(world, state)
    theirs = factories.state(bob)
    with pytest.raises(NotFound):
        snapshots.request_restore(state.owner, made.key, into=theirs.key)


# Rows that somebody else than our code wrote


def forged(world: World, kind: str, person: User, **fields: object) -> Operation:
    Operation.objects.create(kind=kind, requested_by=person, **fields)
    return world.work()


def test_a_forged_snapshot_of_a_colleagues_state(world: World, gate: object, state: AgentState, bob: User) -> None:
    done = forged(world, "snapshot", bob, agent_state=state, request={"with_logins": True})
    assert done.state == "failed"
    assert "archive" not in world.broker.calls
    assert AuditEvent.objects.filter(action="state.snapshot", outcome="refused", actor="bob").exists()


def test_a_forged_restore_of_a_colleagues_snapshot(world: World, gate: object, state: AgentState, bob: User) -> None:
    made = taken(world, state)
    done = forged(world, "restore", bob, snapshot=made, request={"into": ""})
    assert done.state == "failed"
    assert world.broker.target.restored == []


def test_a_snapshot_whose_row_was_given_to_somebody_else(
    world: World, gate: object, state: AgentState, bob: User
) -> None:
    made = taken(world, state, with_logins=True)
    StateSnapshot.objects.filter(pk=made.pk).update(owner=bob)
    done = forged(world, "restore", bob, snapshot=made, request={"into": ""})
    assert (done.state, world.broker.target.restored) == ("failed", [])
    assert "not what its row says" in done.error
    assert list(AgentState.objects.all()) == [state]


def test_a_row_that_says_another_state_brings_no_logins_there(world: World, gate: object, state: AgentState) -> None:
    made = taken(world, state, with_logins=True)
    other = factories.state(state.owner)
    StateSnapshot.objects.filter(pk=made.pk).update(state=other, state_key=other.key)
    done = forged(world, "restore", state.owner, snapshot=made, agent_state=other, request={"into": other.key})
    assert (done.state, world.broker.target.restored) == ("failed", [])


def test_a_restore_whose_target_was_exchanged(world: World, gate: object, state: AgentState, bob: User) -> None:
    made, theirs = taken(world, state), factories.state(bob)
    for request in ({"into": ""}, {"into": theirs.key}, {"into": "x"}, {}):
        done = forged(world, "restore", state.owner, snapshot=made, agent_state=theirs, request=request)
        assert (done.state, world.broker.target.restored) == ("failed", []), request


def test_a_snapshot_of_another_unix_account_stays_away(world: World, gate: object, state: AgentState) -> None:
    made = taken(world, state)
    world.broker.target.add_link("alice", "other-unix", uid=1077)
    snapshots.request_restore(state.owner, made.key)
    done = world.work()
    assert "another Unix account" in done.error
    assert world.broker.target.restored == []


def test_a_purging_state_or_snapshot_is_left_alone(world: World, gate: object, state: AgentState) -> None:
    made = taken(world, state)
    StateSnapshot.objects.filter(pk=made.pk).update(phase="purging")
    with pytest.raises(Conflict, match="purging"):
        snapshots.request_restore(state.owner, made.key)
    assert forged(world, "restore", state.owner, snapshot=made, request={"into": ""}).state == "failed"
    AgentState.objects.filter(pk=state.pk).update(phase="purging")
    with pytest.raises(Conflict, match="purging"):
        snapshots.request_snapshot(state.owner, state.key)
    assert forged(world, "snapshot", state.owner, agent_state=state).state == "failed"
