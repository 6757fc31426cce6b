"""Taking snapshots, on an engine, a broker and an archive in memory."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import pytest

from agents.engine.errors import BrokerRefused, BrokerUnreachable, EngineUnreachable
from agents.models import AgentState, AuditEvent, Operation, StateSnapshot
from agents.operations import leases, lifecycle, snapshots
from agents.operations.errors import Conflict
from agents.operations.reconcile import reconcile
from tests import factories
from tests.db.conftest import World
from tests.db.snapshot_kit import killed_at, running, state, status, taken  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_snapshot_is_a_row_with_a_verified_file(world: World, gate: object, state: AgentState) -> None:
    made = taken(world, state)
    assert (made.phase, made.entries, made.content_size, made.with_logins) == ("kept", 1, 5, False)
    manifest, content = world.archive.target.kept[made.key]
    assert (content, manifest["state"], manifest["sha256"]) == (b"first", state.key, made.sha256)
    assert AuditEvent.objects.filter(action="snapshot.kept").exists()
    assert AuditEvent.objects.filter(action="state.snapshot").exists()


def test_a_running_agent_is_frozen_while_it_is_read_and_no_longer(
    world: World, gate: object, state: AgentState
) -> None:
    container = running(world, state)
    seen: list[str] = []
    world.broker.before["archive"] = lambda: seen.append(status(world, container))
    world.archive.target.hooks.before("keep", lambda: seen.append(status(world, container)))
    taken(world, state)
    assert seen == ["paused", "running"]


@pytest.mark.parametrize("error", [BrokerRefused("no", code="stream"), BrokerUnreachable("gone"), RuntimeError("bug")])
def test_a_frozen_agent_is_thawed_whatever_happens_and_nothing_is_left(
    world: World, gate: object, state: AgentState, error: Exception
) -> None:
    container = running(world, state)
    world.broker.errors["archive"] = error
    snapshots.request_snapshot(state.owner, state.key)
    assert world.work().state == "failed"
    assert status(world, container) == "running"
    assert not StateSnapshot.objects.exists()
    assert world.archive.target.kept == {}


def test_what_cannot_be_thawed_at_once_is_thawed_by_the_next_look(
    world: World, gate: object, state: AgentState
) -> None:
    container = running(world, state)
    world.engine.errors["unpause"] = EngineUnreachable("away")
    taken(world, state)
    assert status(world, container) == "paused"
    world.engine.errors.clear()
    reconcile(world.engines, streams=world.streams)
    assert status(world, container) == "running"


def test_a_look_leaves_an_agent_frozen_whose_snapshot_is_under_way(
    world: World, gate: object, state: AgentState
) -> None:
    container = running(world, state)
    seen: list[str] = []

    def look() -> None:
        reconcile(world.engines, streams=world.streams)
        seen.append(status(world, container))

    world.broker.before["archive"] = look
    made = taken(world, state)
    assert seen == ["paused"]
    assert made.phase == "kept", "nor does it take its row away"


def test_a_runner_that_was_killed_leaves_nothing_frozen(world: World, gate: object, state: AgentState) -> None:
    container = running(world, state)
    operation = snapshots.request_snapshot(state.owner, state.key)
    killed_at(world, "archive")
    world.engine.target.pause(container)
    Operation.objects.filter(pk=operation.pk).update(lease_owner="1.1.dead")
    reconcile(world.engines, streams=world.streams)
    assert status(world, container) == "running"
    assert world.work().state == "succeeded"
    assert status(world, container) == "running"


def test_a_file_that_was_stored_before_the_kill_is_found_again(world: World, gate: object, state: AgentState) -> None:
    snapshots.request_snapshot(state.owner, state.key)
    operation = leases.take("1.1")
    assert operation is not None
    row = factories.snapshot(state, key=operation.id.hex, phase="making")
    manifest = {"state": state.key, "owner": "alice", "with_logins": False, "size": 9, "bytes": 5, "entries": 1}
    world.archive.target.kept[row.key] = (manifest | {"sha256": "a" * 64}, b"tar")
    Operation.objects.filter(pk=operation.pk).update(lease_owner="1.1.dead")
    done = world.work()
    assert (done.state, done.snapshot.sha256) == ("succeeded", "a" * 64)
    assert "archive" not in world.broker.calls


def test_an_unfinished_snapshot_without_an_operation_goes_with_its_file(
    world: World, state: AgentState, gate: object
) -> None:
    row = factories.snapshot(state, phase="making")
    world.archive.target.kept[row.key] = ({}, b"tar")
    kept = factories.snapshot(state)
    world.archive.target.kept[kept.key] = ({}, b"tar")
    reconcile(world.engines, streams=world.streams)
    assert list(StateSnapshot.objects.all()) == [kept]
    assert list(world.archive.target.kept) == [kept.key]


def test_a_file_without_a_row_stays_and_is_written_down_once(world: World, state: AgentState) -> None:
    world.archive.target.kept["f" * 32] = ({}, b"tar")
    for _ in range(3):
        reconcile(world.engines, streams=world.streams)
    assert AuditEvent.objects.filter(action="snapshot.unknown").count() == 1
    assert "f" * 32 in world.archive.target.kept


@pytest.mark.parametrize(
    ("target", "call"), [("broker", "identity"), ("broker", "archive"), ("archive", "draft"), ("archive", "fill")]
)
def test_cancel_at_each_step_leaves_nothing(
    world: World, gate: object, state: AgentState, target: str, call: str
) -> None:
    container = running(world, state)
    operation = snapshots.request_snapshot(state.owner, state.key)

    def cancel() -> None:
        lifecycle.request_cancel(state.owner, operation.id)

    if call == "fill":
        world.archive.target.hooks.before(call, cancel)
    else:
        getattr(world, target).before[call] = cancel
    assert world.work().state == "cancelled"
    assert not StateSnapshot.objects.exists()
    assert world.archive.target.kept == {}
    assert status(world, container) == "running"


def test_cancel_while_it_waits(world: World, gate: object, state: AgentState) -> None:
    operation = snapshots.request_snapshot(state.owner, state.key)
    assert lifecycle.request_cancel(state.owner, operation.id).state == "cancelled"
    assert not StateSnapshot.objects.exists()
    assert snapshots.request_snapshot(state.owner, state.key).state == "queued"


def test_only_one_thing_at_a_time_happens_to_a_state(world: World, gate: object, state: AgentState) -> None:
    snapshots.request_snapshot(state.owner, state.key)
    with pytest.raises(Conflict, match="under way"):
        snapshots.request_snapshot(state.owner, state.key)
