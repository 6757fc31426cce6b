"""Snapshots and restores on an engine, a broker and an archive in memory."""

from __future__ import annotations

import pytest

from agents.engine.errors import ArchiveRefused, BrokerRefused, BrokerUnreachable, EngineUnreachable
from agents.models import AgentState, AuditEvent, Operation, StateSnapshot, User
from agents.operations import leases, lifecycle, snapshots
from agents.operations.errors import Conflict, NotFound
from agents.operations.reconcile import reconcile
from tests import factories
from tests.db.conftest import World
from tests.support.engine_kit import FakeKit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def state(alice: User, world: World) -> AgentState:
    made = factories.state(alice)
    world.broker.target.states["alice", made.key] = b"first"
    return made


def running(world: World, state: AgentState) -> str:
    """An agent with the state, and its container; returns the container's id."""
    agent = factories.agent(state.owner, agent_state=state)
    engine = world.engine.target
    engine.images["image"] = {}
    network = f"jackin-{agent.key}"
    engine.ensure_network(network, agent=agent.key, operation="op")
    spec = FakeKit().launch_spec(image="image", name=agent.name, agent=agent.key, network=network)
    container = engine.create_container(spec)
    engine.start(container)
    return str(container)


def taken(world: World, state: AgentState, **options: bool) -> StateSnapshot:
    operation = snapshots.request_snapshot(state.owner, state.key, **options)
    done = world.work()
    assert (done.pk, done.state) == (operation.pk, "succeeded"), done.error
    assert done.snapshot is not None
    return done.snapshot


def status(world: World, container: str) -> str:
    return str(world.engine.target.container(container).status)


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
    _killed_at(world, "archive")
    world.engine.target.pause(container)
    Operation.objects.filter(pk=operation.pk).update(lease_owner="1.1.dead")
    reconcile(world.engines, streams=world.streams)
    assert status(world, container) == "running"
    assert world.work().state == "succeeded"
    assert status(world, container) == "running"


def _killed_at(world: World, call: str, *, target: str = "broker") -> None:
    """Work until `call`, and end there as a killed process would: nothing is written any more."""

    class Killed(BaseException):
        pass

    part = getattr(world, target)

    def kill() -> None:
        raise Killed

    part.before[call] = kill
    with pytest.raises(Killed):
        world.workers.work_once()
    part.before.clear()
    Operation.objects.filter(state="running").update(lease_owner="1.1.dead")


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
    _killed_at(world, "give", target="archive")
    done = world.work()
    assert done.state == "succeeded", done.error
    assert world.broker.target.states["alice", state.key] == b"first"
    assert world.archive.target.kept[done.id.hex][1] == b"second"


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
