"""What survives a runner that dies: leases, attempts, and a launch that is done exactly once."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from agents.models import Agent, Operation, User
from agents.operations import leases
from agents.operations.ejecting import eject_all
from agents.operations.launch import request_launch
from agents.operations.lifecycle import request_eject
from agents.operations.workers import Workers
from tests import factories
from tests.db.conftest import NOTHING, World

DEAD = "999999999.1.abc"  # no such process


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours may catch it."""


def die() -> None:
    raise Killed


def kill_runner_at(world: World, part: str, call: str) -> None:
    """Let the worker die just before `call`, and its process be gone afterwards."""
    getattr(world, part).before[call] = die
    with pytest.raises(Killed):
        world.workers.work_once()
    del getattr(world, part).before[call]
    Operation.objects.filter(state="running").update(lease_owner=DEAD)


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize(
    ("part", "call"),
    [
        *[("broker", "identity"), ("broker", "stage"), ("images", "image_for"), ("broker", "network_ready")],
        *[("engine", "ensure_network"), ("engine", "create_container"), ("engine", "attach"), ("engine", "start")],
        *[("engine", "resize"), ("broker", "admit"), ("engine", "container")],
    ],
)
def test_a_launch_whose_runner_died_is_done_by_the_next(world: World, alice: User, part: str, call: str) -> None:
    request_launch(alice, factories.launch_request())
    kill_runner_at(world, part, call)
    done = world.work()
    agent = Agent.objects.get()
    assert (done.state, done.attempt, agent.state) == ("succeeded", 2, "running")
    assert world.objects() == ([agent.name], [f"jackin-{agent.key}"], [])
    assert agent.grants.count() == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
def test_a_gate_that_was_opened_is_not_opened_again(world: World, alice: User) -> None:
    request_launch(alice, factories.launch_request())
    world.workers._engines.engine.before["container"] = lambda: die() if world.broker.target.admitted else None
    with pytest.raises(Killed):
        world.workers.work_once()
    del world.engine.before["container"]
    Operation.objects.update(lease_owner=DEAD)
    (before,) = world.engine.target.containers()
    assert world.work().state == "succeeded"
    assert world.engine.target.containers() == [before]
    assert world.broker.calls.count("admit") == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
def test_a_gate_that_may_have_been_opened_is_never_trusted(world: World, alice: User) -> None:
    """The runner died between the broker's answer and its own note of it: container and staging are made anew."""
    request_launch(alice, factories.launch_request())
    admit = world.broker.target.admit

    def admit_and_die(*arguments: Any, **named: Any) -> None:
        admit(*arguments, **named)
        die()

    world.broker.target.admit = admit_and_die
    with pytest.raises(Killed):
        world.workers.work_once()
    world.broker.target.admit = admit
    Operation.objects.update(lease_owner=DEAD)
    (before,) = world.engine.target.containers()
    assert world.work().state == "succeeded"
    (after,) = world.engine.target.containers()
    assert after.id != before.id


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
def test_secrets_do_not_survive_the_runner(world: World, alice: User) -> None:
    operation = request_launch(alice, factories.launch_request(environment="TOKEN=hunter2"))
    kill_runner_at(world, "broker", "network_ready")
    world.secrets.drop(operation.id)
    done = world.work()
    assert done.state == "failed"
    assert "lost when the runner restarted" in done.error
    assert world.objects() == NOTHING


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
def test_attempts_are_bounded(world: World, alice: User) -> None:
    request_launch(alice, factories.launch_request())
    for _ in range(leases.MOST_ATTEMPTS):
        kill_runner_at(world, "broker", "network_ready")
    done = world.work()
    assert done.state == "failed"
    assert "3 times" in done.error
    assert Agent.objects.get().state == "failed"
    assert world.objects() == NOTHING


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
def test_who_lost_the_lease_changes_nothing_any_more(world: World, alice: User) -> None:
    operation = request_launch(alice, factories.launch_request())
    world.broker.before["network_ready"] = lambda: Operation.objects.update(lease_owner="1.1.other")
    assert world.workers.work_once()
    operation.refresh_from_db()
    assert (operation.state, operation.lease_owner, operation.step) == ("running", "1.1.other", "network")
    assert Agent.objects.get().state == "starting"
    assert world.broker.target.staged() == [operation.id.hex], "tidying up is the new holder's"


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize("call", ["stop", "remove_container", "remove_network"])
def test_an_eject_whose_runner_died_is_done_by_the_next(world: World, alice: User, call: str) -> None:
    request_launch(alice, factories.launch_request())
    world.work()
    request_eject(alice, Agent.objects.get().key)
    kill_runner_at(world, "engine", call)
    assert world.work().state == "succeeded"
    assert Agent.objects.get().state == "ended"
    assert world.objects() == NOTHING


@pytest.mark.django_db
def test_a_lease_is_taken_once_until_it_ends(alice: User) -> None:
    operation = factories.launch(alice)
    process = leases.process_name()
    first = leases.take(process)
    assert first is not None
    assert leases.take(process) is None, "its process lives"
    Operation.objects.update(lease_until=timezone.now() - datetime.timedelta(seconds=1))
    second = leases.take(process)
    assert second is not None
    assert second.attempt == 2
    assert not leases.holds(first)
    assert leases.holds(second)
    assert second.pk == operation.pk


@pytest.mark.django_db
def test_one_person_does_not_take_all_workers(alice: User, bob: User) -> None:
    process = leases.process_name()
    for person, many in ((alice, leases.MOST_AT_ONCE + 60), (bob, 1)):
        for _ in range(many):
            factories.launch(person)
    taken = [leases.take(process) for _ in range(leases.MOST_AT_ONCE + 2)]
    asked = [found.requested_by for found in taken if found is not None]
    assert asked == [alice] * leases.MOST_AT_ONCE + [bob], "then nobody has any left that may begin"


@pytest.mark.django_db
def test_an_eject_goes_before_launches_that_wait(alice: User) -> None:
    factories.launch(alice)
    eject = Operation.objects.create(kind="eject", agent=factories.agent(alice), requested_by=alice)
    taken = leases.take(leases.process_name())
    assert taken == eject


@pytest.mark.django_db
def test_a_heartbeat_keeps_a_lease(alice: User) -> None:
    factories.launch(alice)
    taken = leases.take(leases.process_name())
    assert taken is not None
    Operation.objects.update(lease_until=timezone.now() - datetime.timedelta(seconds=1))
    leases.beat([taken.lease_owner])
    assert leases.take(leases.process_name()) is None


def test_a_token_tells_whether_its_process_lives() -> None:
    assert leases.is_alive(leases.process_name() + ".abc")
    earlier = f"{os.getpid()}.1.abc"  # the same number, but another process
    assert not any(leases.is_alive(token) for token in (DEAD, earlier, "", "1", "x.y.z", "².1", "9" * 5000 + ".1"))


@pytest.mark.django_db(transaction=True)
def test_two_runners_never_work_on_the_same(world: World) -> None:
    """Eight threads of two runners at once, thirty launches of ten people: each is taken by exactly one."""
    people = [factories.person(f"person-{number}") for number in range(10)]
    wanted = {factories.launch(person).pk for person in people for _ in range(leases.MOST_AT_ONCE)}
    taken: list[object] = []
    barrier = threading.Barrier(8)

    def take_all(process: str) -> None:
        barrier.wait()
        while (operation := leases.take(process)) is not None:
            taken.append(operation.pk)
        connections.close_all()

    names = [leases.process_name(), f"{leases.process_name()}"]
    run_all([lambda name=name: take_all(name) for name in names for _ in range(4)])  # type: ignore[misc]
    assert len(taken) == 30
    assert set(taken) == wanted


@pytest.mark.django_db(transaction=True)
def test_worker_threads_wake_work_and_stop(world: World) -> None:
    factories.agent_smith()
    alice = factories.person("alice")
    workers = Workers(world.engines, streams=world.streams, secrets=world.secrets, process=leases.process_name())
    done = threading.Event()
    world.engine.before["container"] = lambda: done.set() if len(world.broker.target.admitted) == 3 else None
    workers.start()
    try:
        operations = [factories.launch(alice) for _ in range(3)]
        workers.wake()
        assert done.wait(timeout=30)
        for operation in operations:
            wait_for(lambda operation=operation: Operation.objects.get(pk=operation.pk).state == "succeeded")  # type: ignore[misc]
    finally:
        workers.stop()
    assert Agent.objects.filter(state="running").count() == 3


def run_all(targets: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    until = timezone.now() + datetime.timedelta(seconds=seconds)
    tick = threading.Event()
    while not condition():
        assert timezone.now() < until, "it never came true"
        tick.wait(0.02)


@pytest.mark.django_db(transaction=True)
def test_eject_all_lets_a_launch_under_way_tidy_up(world: World) -> None:
    factories.agent_smith()
    factories.launch(factories.person("alice"))
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
    assert eject_all(world.engines, streams=world.streams) == []
    thread.join(timeout=20)
    assert world.objects() == NOTHING
    assert (Operation.objects.get(kind="launch").state, Agent.objects.get().state) == ("cancelled", "ended")
