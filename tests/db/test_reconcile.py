"""Rows and containers agree again, whatever happened to either."""

from __future__ import annotations

import dataclasses

import pytest

from agents.engine.errors import BrokerUnreachable, EngineUnreachable
from agents.engine.types import LABEL_AGENT
from agents.models import Agent, AuditEvent, Operation, User
from agents.operations.ejecting import eject_all
from agents.operations.launch import request_launch
from agents.operations.lifecycle import request_eject
from agents.operations.reconcile import reconcile
from tests import factories
from tests.db.conftest import NOTHING, World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("gate")]


def launched(world: World, owner: User) -> Agent:
    request_launch(owner, factories.launch_request())
    operation = world.work()
    assert operation.state == "succeeded", operation.error
    assert operation.agent is not None
    return operation.agent


def look(world: World) -> None:
    reconcile(world.engines, streams=world.streams)


def test_what_agrees_is_left_alone(world: World, alice: User) -> None:
    agent = launched(world, alice)
    before, events = world.objects(), AuditEvent.objects.count()
    look(world)
    agent.refresh_from_db()
    assert (agent.state, world.objects(), AuditEvent.objects.count()) == ("running", before, events)


@pytest.mark.parametrize(
    ("exit_code", "oom", "says"),
    [(0, False, "Its program ended."), (3, False, "exit code 3"), (137, True, "more memory than its limit")],
)
def test_a_container_that_ended(world: World, alice: User, exit_code: int, *, oom: bool, says: str) -> None:
    agent = launched(world, alice)
    (container,) = world.engine.target.containers()
    world.end(container.id, exit_code=exit_code, oom=oom)
    look(world)
    agent.refresh_from_db()
    assert agent.state == "ended"
    assert says in agent.end_reason
    assert world.streams.dropped[agent.key] == agent.end_reason
    assert world.objects() == NOTHING
    row = Operation.objects.get(kind="reconcile", agent=agent, state="succeeded", requested_by=None)
    event = AuditEvent.objects.get(action="agent.ended", actor="system", agent_key=agent.key)
    assert event.operation_id == row.id.hex
    look(world)
    assert Operation.objects.filter(kind="reconcile").count() == 1


def test_a_container_that_was_removed(world: World, alice: User) -> None:
    agent = launched(world, alice)
    (container,) = world.engine.target.containers()
    world.engine.target.remove_container(container.id)
    look(world)
    agent.refresh_from_db()
    assert (agent.state, agent.end_reason) == ("ended", "Its container was removed by somebody else.")
    assert world.objects() == NOTHING


def test_one_persons_end_is_not_anothers(world: World, alice: User, bob: User) -> None:
    mine, theirs = launched(world, alice), launched(world, bob)
    container = next(one for one in world.engine.target.containers() if one.labels[LABEL_AGENT] == mine.key)
    world.end(container.id, exit_code=0)
    look(world)
    assert [one.name for one in world.engine.target.containers()] == [theirs.name]
    assert Agent.objects.get(pk=theirs.pk).state == "running"


@pytest.mark.parametrize("state", ["ended", "failed"])
def test_leftovers_go(world: World, alice: User, state: str) -> None:
    launched(world, alice)
    Agent.objects.update(state=state)
    look(world)
    assert world.objects() == NOTHING
    assert AuditEvent.objects.filter(action="leftovers.remove").count() == 1
    assert Operation.objects.filter(kind="reconcile").count() == 1


def forgotten(world: World, owner: User) -> None:
    """A running agent, and a database that was made after it."""
    launched(world, owner).delete()


def test_a_lost_database_ends_no_agent(world: World, alice: User) -> None:
    forgotten(world, alice)
    before = world.objects()
    look(world)
    look(world)
    assert world.objects() == before
    assert AuditEvent.objects.filter(action="leftovers.keep").count() == 1, "said once, not each minute"


def test_what_an_older_copy_of_the_database_does_not_know_is_left_alone(world: World, alice: User, bob: User) -> None:
    forgotten(world, alice)
    launched(world, bob)
    before = world.objects()
    look(world)
    assert world.objects() == before


def test_without_a_row_what_ended_goes(world: World, alice: User) -> None:
    forgotten(world, alice)
    (container,) = world.engine.target.containers()
    world.end(container.id)
    look(world)
    assert world.objects() == NOTHING


def test_eject_all_means_what_only_the_engine_knows_too(world: World, alice: User, bob: User) -> None:
    forgotten(world, alice)
    launched(world, bob)
    assert eject_all(world.engines, streams=world.streams) == []
    assert world.objects() == NOTHING
    assert AuditEvent.objects.filter(action="leftovers.remove").count() == 1


def test_a_network_alone_goes(world: World) -> None:
    world.engine.target.ensure_network("jackin-x", agent="f" * 32, operation="")
    look(world)
    assert world.objects() == NOTHING


def test_staging_without_an_open_launch_goes(world: World, alice: User) -> None:
    done = launched(world, alice).operations.get()
    waiting = factories.launch(alice)
    for token in ("nonsense", "0" * 32, done.id.hex, waiting.id.hex):
        world.broker.target.stage("alice", token, ())
    look(world)
    assert world.broker.target.staged() == [waiting.id.hex]


def test_what_a_launch_is_making_is_left_alone(world: World, alice: User) -> None:
    request_launch(alice, factories.launch_request())
    seen = []

    def look_once() -> None:
        world.broker.before.clear()
        before = world.objects()
        look(world)
        seen.append(world.objects() == before)

    world.broker.before["admit"] = look_once
    assert world.work().state == "succeeded"
    assert seen == [True]


def test_a_launch_without_an_operation_fails(world: World, alice: User) -> None:
    agent = factories.agent(alice, state="starting")
    look(world)
    agent.refresh_from_db()
    assert agent.state == "failed"
    assert "lost" in agent.end_reason


def test_an_eject_that_failed_is_asked_for_again(world: World, alice: User) -> None:
    agent = launched(world, alice)
    request_eject(alice, agent.key)
    world.engine.errors["stop"] = EngineUnreachable("The engine is away.")
    failed = world.work()
    assert (failed.state, failed.error, failed.failed_step) == ("failed", "The engine is away.", "stop")
    assert Agent.objects.get().state == "ejecting"
    world.engine.errors.clear()
    look(world)
    look(world)
    again = world.work()
    assert (again.state, again.requested_by) == ("succeeded", None)
    assert Agent.objects.get().state == "ended"


def test_nothing_is_touched_when_the_engine_is_away(world: World, alice: User) -> None:
    agent = launched(world, alice)
    world.engine.errors["containers"] = EngineUnreachable("away")
    with pytest.raises(EngineUnreachable):
        look(world)
    agent.refresh_from_db()
    assert agent.state == "running"


def test_an_end_waits_until_all_can_be_removed(world: World, alice: User) -> None:
    agent = launched(world, alice)
    (container,) = world.engine.target.containers()
    world.end(container.id, exit_code=0)
    world.broker.errors["release"] = BrokerUnreachable("away")
    look(world)
    assert Agent.objects.get(pk=agent.pk).state == "running"
    world.broker.errors.clear()
    look(world)
    assert Agent.objects.get(pk=agent.pk).state == "ended"


def test_an_eject(world: World, alice: User) -> None:
    agent = launched(world, alice)
    operation = request_eject(alice, agent.key)
    assert request_eject(alice, agent.key).pk == operation.pk, "asking twice is asking once"
    assert Agent.objects.get().state == "ejecting"
    done = world.work()
    agent.refresh_from_db()
    assert (done.state, agent.state, agent.end_reason) == ("succeeded", "ended", "ejected by alice")
    assert world.objects() == NOTHING
    assert world.streams.dropped == {agent.key: "ejected by alice"}
    assert [step.state for step in done.steps.all()] == ["succeeded", "succeeded"]
    again = factories.launch_request(state=agent.agent_state.key)
    assert request_launch(alice, again).agent.name == agent.name, "the name is free again"


def test_eject_all(world: World, alice: User, bob: User) -> None:
    launched(world, alice)
    launched(world, bob)
    request_launch(alice, factories.launch_request())
    assert eject_all(world.engines, streams=world.streams) == []
    assert world.objects() == NOTHING
    assert {agent.state for agent in Agent.objects.all()} == {"ended"}
    assert not Operation.objects.filter(state__in=("queued", "running")).exists()
    assert not world.workers.work_once()


def test_eject_all_and_a_runner_that_sees_the_containers_go(world: World, alice: User, bob: User) -> None:
    """`serve --eject`: reconcile ends the agents before eject_all can, and both are content."""
    launched(world, alice)
    launched(world, bob)
    world.engine.before["remove_container"] = lambda: Agent.objects.update(state="ended")
    assert eject_all(world.engines, streams=world.streams) == []
    assert world.objects() == NOTHING
    assert {agent.state for agent in Agent.objects.all()} == {"ended"}


def test_eject_all_names_what_is_left(world: World, alice: User) -> None:
    agent = launched(world, alice)
    world.engine.errors["stop"] = EngineUnreachable("The engine is away.")
    assert eject_all(world.engines, streams=world.streams) == [f"{agent.name}: The engine is away."]
    assert Agent.objects.get().state == "ejecting", "the next runner tries again"
    world.engine.errors.clear()
    reconcile(world.engines, streams=world.streams)
    assert world.work().state == "succeeded"
    assert world.objects() == NOTHING


def test_a_foreign_container_of_the_same_agent_is_removed_with_it(world: World, alice: User) -> None:
    agent = launched(world, alice)
    (spec,) = world.specs()
    world.engine.target.create_container(dataclasses.replace(spec, name="extra", operation="0" * 32))
    request_eject(alice, agent.key)
    world.work()
    assert world.objects() == NOTHING
