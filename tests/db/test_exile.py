"""Many agents ended at once: whose, in what order, with what said when some cannot be, and replayed after a death."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from agents.engine.errors import EngineUnreachable
from agents.management.commands import exile as exile_command
from agents.models import Agent, AuditEvent, Operation, OperationStep, User
from agents.operations import exiling, leases
from agents.operations.errors import Conflict, NotFound
from agents.operations.exile import Scope, request_exile
from agents.operations.launch import request_launch
from agents.operations.lifecycle import request_cancel, request_eject
from agents.operations.reconcile import reconcile
from tests import factories
from tests.db.conftest import NOTHING, World
from tests.db.test_replay import kill_runner_at, wait_for

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("gate")]


def launched(world: World, person: User, many: int = 1) -> list[Agent]:
    source = f"/home/{person.username}/project"
    found = []
    for _ in range(many):
        operation = request_launch(person, factories.launch_request(mounts=(factories.mount(source),)))
        assert world.work().state == "succeeded"
        assert operation.agent is not None
        found.append(operation.agent)
    return found


def states(operation: Operation) -> dict[str, str]:
    return dict(operation.steps.values_list("name", "state"))


def test_all_of_mine_end_and_nobody_elses(world: World, alice: User, bob: User) -> None:
    mine, theirs = launched(world, alice, 3), launched(world, bob)
    exile = request_exile(alice, scope=Scope.OWN)
    assert [*states(exile)] == sorted(agent.name for agent in mine)
    done = world.work()
    assert (done.state, set(states(done).values())) == ("succeeded", {"succeeded"})
    assert {agent.state for agent in Agent.objects.filter(owner=alice)} == {"ended"}
    assert [one.state for one in Agent.objects.filter(owner=bob)] == ["running"]
    assert world.objects()[0] == [theirs[0].name]
    assert {agent.key for agent in mine} == set(world.streams.dropped)


@pytest.mark.parametrize("scope", [Scope.PERSON, Scope.EVERYONE])
def test_an_administrator_ends_other_peoples(world: World, alice: User, bob: User, admin: User, scope: Scope) -> None:
    launched(world, alice)
    launched(world, bob)
    request_exile(admin, scope=scope, person="alice")
    assert world.work().state == "succeeded"
    left = [] if scope == Scope.EVERYONE else [bob]
    assert [one.owner for one in Agent.objects.filter(state="running")] == left
    assert AuditEvent.objects.filter(action=f"exile.{scope}", actor=admin.username, outcome="done").exists()
    assert AuditEvent.objects.filter(action="agent.ended", actor=admin.username).count() == 2 - len(left)


@pytest.mark.parametrize("scope", [Scope.PERSON, Scope.EVERYONE])
@pytest.mark.parametrize("who", ["alice", "bob", "carol", "stranger"])
def test_nobody_else_may(world: World, alice: User, request: pytest.FixtureRequest, who: str, scope: Scope) -> None:
    launched(world, alice)
    person = request.getfixturevalue(who)
    with pytest.raises(NotFound):
        request_exile(person, scope=scope, person="alice")
    assert not Operation.objects.filter(kind="exile").exists()
    assert AuditEvent.objects.filter(action=f"exile.{scope}", actor=person.username, outcome="refused").exists()
    # … nor by writing the row themselves: the runner looks again.
    Operation.objects.create(kind="exile", requested_by=person, request={"scope": scope, "person": "alice"})
    done = world.work()
    assert (done.state, Agent.objects.get().state) == ("failed", "running")
    assert "may not do this" in done.error


@pytest.mark.parametrize(
    "request_", [{}, {"scope": "all"}, {"scope": []}, {"scope": "own", "person": "alice"}, [], "x", 7]
)
def test_forged_requests_end_nothing(world: World, alice: User, bob: User, request_: Any) -> None:
    launched(world, alice)
    Operation.objects.create(kind="exile", requested_by=bob, request=request_)
    assert world.work().state == "failed"
    assert Agent.objects.get().state == "running"


def test_without_agents_or_without_the_person_it_is_said(world: World, alice: User, admin: User) -> None:
    with pytest.raises(Conflict, match="no agent"):
        request_exile(alice, scope=Scope.OWN)
    with pytest.raises(NotFound):
        request_exile(admin, scope=Scope.PERSON, person="nobody-of-that-name")
    assert not Operation.objects.exists()


def test_asking_twice_is_asking_once(world: World, alice: User) -> None:
    launched(world, alice)
    first = request_exile(alice, scope=Scope.OWN)
    assert request_exile(alice, scope=Scope.OWN) == first


def test_what_starts_is_cancelled_first(world: World, alice: User) -> None:
    waiting = request_launch(alice, factories.launch_request())
    request_exile(alice, scope=Scope.OWN)
    waiting.refresh_from_db()
    assert (waiting.state, Agent.objects.get().state) == ("cancelled", "ended")
    done = world.work()
    assert done.state == "succeeded"
    assert AuditEvent.objects.filter(action="operation.launch.cancelled", actor="alice").exists()


def test_one_that_fails_is_named_and_the_rest_goes_on(world: World, alice: User) -> None:
    first, second, third = launched(world, alice, 3)
    stop = world.engine.target.stop
    bad = world.engine.target.container(second.name).id

    def stop_but_one(container: str, *, grace: int) -> None:
        if container == bad:
            raise EngineUnreachable("The engine is away.")
        stop(container, grace=grace)

    world.engine.target.stop = stop_but_one
    request_exile(alice, scope=Scope.OWN)
    done = world.work()
    assert done.state == "failed"
    assert done.error == f"1 of 3 agents could not be ejected. {second.name}: The engine is away."
    assert states(done) == {first.name: "succeeded", second.name: "failed", third.name: "succeeded"}
    assert Agent.objects.get(pk=second.pk).state == "ejecting"
    world.engine.target.stop = stop
    reconcile(world.engines, streams=world.streams)
    assert world.work().state == "succeeded"
    assert world.objects() == NOTHING


def test_reconcile_queues_no_eject_while_an_exile_is_at_it(world: World, alice: User) -> None:
    launched(world, alice)
    seen: list[int] = []

    def look() -> None:
        reconcile(world.engines, streams=world.streams)
        seen.append(Operation.objects.filter(kind="eject").count())

    world.engine.before["stop"] = look
    request_exile(alice, scope=Scope.OWN)
    assert world.work().state == "succeeded"
    assert seen == [0]


@pytest.mark.parametrize("call", ["stop", "remove_container", "remove_network"])
def test_an_exile_whose_runner_died_is_done_by_the_next(world: World, alice: User, call: str) -> None:
    launched(world, alice, 3)
    request_exile(alice, scope=Scope.OWN)
    kill_runner_at(world, "engine", call)
    done = world.work()
    assert (done.state, done.attempt) == ("succeeded", 2)
    assert set(states(done).values()) == {"succeeded"}
    assert world.objects() == NOTHING
    assert {agent.state for agent in Agent.objects.all()} == {"ended"}
    assert AuditEvent.objects.filter(action="agent.ended").count() == 3


def test_an_eject_under_way_and_an_exile_do_not_meet(world: World, alice: User) -> None:
    (agent,) = launched(world, alice)
    eject = request_eject(alice, agent.key)
    request_exile(alice, scope=Scope.OWN)
    eject_taken = leases.take(leases.process_name())
    assert eject_taken == eject
    exile = leases.take(leases.process_name())
    assert exile is not None
    exiling.run_exile(exile, engines=world.engines, streams=world.streams)
    assert Agent.objects.get().state == "ended"
    eject.refresh_from_db()
    assert (exile.state, eject.state) == ("succeeded", "cancelled")


def test_cancelled_it_leaves_the_rest_alone(world: World, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exiling, "AT_ONCE", 1)
    monkeypatch.setattr("agents.operations.progress.LOOK_AFTER", 0.0)
    launched(world, alice, 3)
    exile = request_exile(alice, scope=Scope.OWN)
    world.engine.before["stop"] = lambda: request_cancel(alice, exile.pk)
    done = world.work()
    assert (done.state, done.error) == ("cancelled", "It was cancelled: 2 of 3 agents were left alone.")
    assert sorted(states(done).values()) == ["skipped", "skipped", "succeeded"]
    assert Agent.objects.filter(state="running").count() == 2


def test_who_lost_the_lease_ends_no_further_agent(world: World, alice: User) -> None:
    launched(world, alice)
    exile = request_exile(alice, scope=Scope.OWN)
    world.engine.before["stop"] = lambda: Operation.objects.filter(pk=exile.pk).update(lease_owner="1.1.other")
    assert world.workers.work_once()
    exile.refresh_from_db()
    assert (exile.state, Agent.objects.get().state) == ("running", "ejecting")


def test_the_command_ends_those_of_one_person_and_says_so(
    world: World, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exile_command, "build_engines", lambda: world.engines)
    launched(world, alice)
    launched(world, bob)
    out = io.StringIO()
    call_command("exile", "--person", "alice", stdout=out)
    assert out.getvalue() == "no agent of alice is left\n"
    assert [one.owner for one in Agent.objects.filter(state="running")] == [bob]
    exile = Operation.objects.get(kind="exile")
    assert (exile.state, exile.requested_by) == ("succeeded", None)
    world.engine.errors["stop"] = EngineUnreachable("The engine is away.")
    with pytest.raises(CommandError, match="The engine is away"):
        call_command("exile", "--all")
    world.engine.errors.clear()
    call_command("exile", "--all", stdout=out)
    assert world.objects() == NOTHING
    for wrong in (["--person", "nobody-of-that-name"], [], ["--all", "--person", "alice"]):
        with pytest.raises(CommandError):
            call_command("exile", *wrong)


def test_launches_do_not_keep_a_person_from_ejecting(alice: User, bob: User) -> None:
    process = leases.process_name()
    for _ in range(leases.MOST_AT_ONCE + 1):
        factories.launch(alice)
    while leases.take(process) is not None:
        pass
    eject = Operation.objects.create(kind="eject", agent=factories.agent(alice), requested_by=alice)
    exile = Operation.objects.create(kind="exile", requested_by=alice)
    assert leases.take(process, urgent=True) == eject
    assert leases.take(process, urgent=True) == exile
    factories.launch(bob)
    assert leases.take(process, urgent=True) is None, "launches are not for these workers"


def test_ends_of_one_person_do_not_take_all_workers_either(alice: User, bob: User) -> None:
    process = leases.process_name()
    for person, many in ((alice, leases.MOST_AT_ONCE + 5), (bob, 1)):
        for _ in range(many):
            Operation.objects.create(kind="eject", agent=factories.agent(person), requested_by=person)
    taken = [leases.take(process) for _ in range(leases.MOST_AT_ONCE + 2)]
    asked = [one.requested_by for one in taken if one is not None]
    assert asked == [alice] * leases.MOST_AT_ONCE + [bob]


@pytest.mark.django_db(transaction=True)
def test_an_exile_waits_for_a_launch_that_stops_by_itself(world: World) -> None:
    factories.agent_smith()
    alice = factories.person("alice")
    launch = factories.launch(alice)
    under_way = threading.Event()

    def wait_for_the_cancel() -> None:
        under_way.set()
        wait_for(lambda: Operation.objects.filter(cancel_requested=True).exists())

    world.engine.before["ensure_network"] = wait_for_the_cancel

    def work() -> None:
        world.workers.work_once()
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    assert under_way.wait(timeout=20)
    exile = request_exile(alice, scope=Scope.OWN)
    taken = leases.take(leases.process_name())
    assert taken == exile
    exiling.run_exile(taken, engines=world.engines, streams=world.streams)
    thread.join(timeout=20)
    launch.refresh_from_db()
    assert (launch.state, taken.state, Agent.objects.get().state) == ("cancelled", "succeeded", "ended")
    assert OperationStep.objects.get(operation=exile).state == "succeeded"
    assert world.objects() == NOTHING
