"""Putting snapshots back, on an engine, a broker and an archive in memory."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import pytest

from agents.engine.errors import ArchiveRefused, BrokerRefused, BrokerUnreachable
from agents.models import AgentState, StateSnapshot
from agents.operations import snapshots
from agents.operations.errors import Conflict
from tests import factories
from tests.db.conftest import World
from tests.db.snapshot_kit import killed_at, running, state, status, taken  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


def test_restoring_over_a_state_keeps_what_was_there_as_a_snapshot(
    world: World, gate: object, state: AgentState
) -> None:
    made = taken(world, state)
    world.broker.target.states["alice", state.key] = b"second"
    snapshots.request_restore(state.owner, made.key, into=state.key)
    done = world.work()
    assert done.state == "succeeded", done.error
    assert world.broker.target.states["alice", state.key] == b"first"
    before = StateSnapshot.objects.exclude(pk=made.pk).get()
    assert (before.phase, before.key) == ("kept", done.id.hex)
    assert before.reason.startswith("before ")
    assert world.archive.target.kept[before.key][1] == b"second"


def test_restoring_into_a_new_state_makes_its_row(world: World, gate: object, state: AgentState) -> None:
    made = taken(world, state)
    snapshots.request_restore(state.owner, made.key)
    done = world.work()
    assert done.state == "succeeded", done.error
    fresh = AgentState.objects.exclude(pk=state.pk).get()
    assert (fresh.name, fresh.owner, fresh.phase) == ("jackin-alice-agent-smith-clone-1", state.owner, "kept")
    assert done.agent_state == fresh
    assert world.broker.target.states["alice", fresh.key] == b"first"
    assert world.broker.target.states["alice", state.key] == b"first"


def test_logins_go_back_to_the_very_state_only(world: World, gate: object, state: AgentState) -> None:
    made = taken(world, state, with_logins=True)
    snapshots.request_restore(state.owner, made.key, into=state.key, keep_logins=True)
    world.work()
    snapshots.request_restore(state.owner, made.key)
    fresh = world.work().agent_state
    other = factories.state(state.owner)
    world.broker.target.states["alice", other.key] = b"other"
    snapshots.request_restore(state.owner, made.key, into=other.key)
    world.work()
    assert world.broker.target.restored == [(state.key, True), (fresh.key, False), (other.key, False)]


def test_a_state_in_use_is_not_replaced(world: World, gate: object, state: AgentState) -> None:
    made = taken(world, state)
    running(world, state)
    with pytest.raises(Conflict, match="uses this state"):
        snapshots.request_restore(state.owner, made.key, into=state.key)


def test_a_state_that_came_into_use_meanwhile_is_not_replaced(world: World, gate: object, state: AgentState) -> None:
    made = taken(world, state)
    snapshots.request_restore(state.owner, made.key, into=state.key)
    running(world, state)
    assert world.work().state == "failed"
    assert world.broker.target.restored == []
    assert StateSnapshot.objects.count() == 1


@pytest.mark.parametrize(
    "error", [BrokerRefused("disk full", code="stream"), ArchiveRefused("damaged", code="damaged")]
)
def test_a_restore_that_is_refused_leaves_all_as_it_was(
    world: World, gate: object, state: AgentState, error: Exception
) -> None:
    made = taken(world, state)
    for into in ("", state.key):
        world.archive.errors["give"] = error
        snapshots.request_restore(state.owner, made.key, into=into)
        assert world.work().state == "failed"
    assert list(AgentState.objects.all()) == [state]
    assert list(StateSnapshot.objects.all()) == [made]
    assert list(world.archive.target.kept) == [made.key]


def test_a_restore_of_which_nobody_knows_whether_it_happened_keeps_the_saved_one(
    world: World, gate: object, state: AgentState
) -> None:
    made = taken(world, state)
    world.broker.errors["restore"] = BrokerUnreachable("gone")
    snapshots.request_restore(state.owner, made.key, into=state.key)
    done = world.work()
    assert done.state == "failed"
    assert "is kept" in done.error
    assert StateSnapshot.objects.count() == 2


def test_a_restore_is_replayed_after_a_kill(world: World, gate: object, state: AgentState) -> None:
    made = taken(world, state)
    world.broker.target.states["alice", state.key] = b"second"
    snapshots.request_restore(state.owner, made.key, into=state.key)
    killed_at(world, "give", target="archive")
    done = world.work()
    assert done.state == "succeeded", done.error
    assert world.broker.target.states["alice", state.key] == b"first"
    assert world.archive.target.kept[done.id.hex][1] == b"second"
