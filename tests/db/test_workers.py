"""Workers that get stuck, and calls that are given up: nobody waits for ever, and nobody else is kept waiting."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.db import connections

from agents.engine.errors import EngineUnreachable
from agents.models import Agent, Operation, OperationLog, User
from agents.operations import leases, patience
from agents.operations.engines import Engines
from agents.operations.errors import Cancelled
from agents.operations.lifecycle import request_cancel
from agents.operations.patience import Patience
from agents.operations.progress import Progress
from agents.operations.workers import Workers
from tests import factories
from tests.db.conftest import NOTHING, World
from tests.db.test_replay import wait_for
from tests.support.hanging_calls import Hangs


def taken(owner: User) -> Operation:
    factories.launch(owner)
    operation = leases.take(leases.process_name())
    assert operation is not None
    return operation


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TICK", 0.01), ("GRACE", 0.1), ("GRACE_OF_BUILDS", 0.2), ("TIDYING", 0.2)):
        monkeypatch.setattr(patience, name, value)
    monkeypatch.setattr("agents.operations.progress.LOOK_AFTER", 0.0)


def with_threads(world: World, **changed: Any) -> Workers:
    """Workers whose calls can be given up, as in the runner."""
    made = {"engine": world.engine, "broker": world.broker, "image_for": world.images.image_for}
    engines = Engines(**made | {"archive": world.engines.archive} | changed)
    process = leases.process_name()
    return Workers(engines, streams=world.streams, secrets=world.secrets, process=process, threads=0)


def working(workers: Workers) -> threading.Thread:
    def work() -> None:
        workers.work_once()
        connections.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("part", "call"), [("broker", "stage"), ("engine", "create_container"), ("engine", "start"), ("broker", "admit")]
)
def test_a_hanging_call_is_given_up_and_what_it_makes_goes(world: World, part: str, call: str, when: Any) -> None:
    factories.agent_smith()
    alice = factories.person("alice")
    launch = factories.launch(alice)
    hung = Hangs(getattr(world, part), call, when=when)
    thread = working(with_threads(world, **{part: hung}))
    assert hung.now_hangs.wait(timeout=20)
    request_cancel(alice, launch.pk)
    thread.join(timeout=10)
    assert not thread.is_alive()
    launch.refresh_from_db()
    assert (launch.state, Agent.objects.get().state) == ("cancelled", "ended")
    if when == "after":
        assert world.objects() == NOTHING
    hung.let_go()
    assert when == "after" or hung.went_on.wait(timeout=10)  # now it makes what nobody wants any more
    wait_for(lambda: world.objects() == NOTHING)
    assert world.streams.held == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quick")
def test_a_call_that_takes_for_ever_fails_the_launch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MOST_SECONDS", 0.3)
    monkeypatch.setattr(Patience.call, "__kwdefaults__", {**(Patience.call.__kwdefaults__ or {}), "most": 0.3})
    factories.agent_smith()
    launch = factories.launch(factories.person("alice"))
    hung = Hangs(world.engine, "ensure_network", when="before")
    working(with_threads(world, engine=hung)).join(timeout=20)
    launch.refresh_from_db()
    assert (launch.state, launch.failed_step) == ("failed", "network")
    assert "did not come to an end within" in launch.error
    hung.let_go()
    assert hung.went_on.wait(timeout=10)
    wait_for(lambda: world.objects() == NOTHING)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quick")
def test_output_is_written_while_nothing_follows_it(world: World) -> None:
    factories.agent_smith()
    alice = factories.person("alice")
    launch = factories.launch(alice)

    def image_for(folder: str, runtime: str, *, log: Any, cancelled: Any) -> str:
        log("the last line before it hangs")
        while not cancelled():
            time.sleep(0.01)
        raise Cancelled("as a build does")

    thread = working(with_threads(world, image_for=image_for))
    wait_for(lambda: OperationLog.objects.filter(text__contains="the last line").exists(), seconds=3)
    request_cancel(alice, launch.pk)
    thread.join(timeout=10)
    launch.refresh_from_db()
    assert launch.state == "cancelled"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quick")
def test_who_lost_the_lease_gives_up_a_hanging_call_and_tidies_nothing(world: World) -> None:
    factories.agent_smith()
    launch = factories.launch(factories.person("alice"))
    hung = Hangs(world.broker, "network_ready", when="after")
    thread = working(with_threads(world, broker=hung))
    assert hung.now_hangs.wait(timeout=20)
    Operation.objects.update(lease_owner="1.1.other")
    thread.join(timeout=10)
    assert not thread.is_alive()
    hung.let_go()
    launch.refresh_from_db()
    assert (launch.state, launch.lease_owner) == ("running", "1.1.other")
    assert world.broker.target.staged() == [launch.id.hex]


@pytest.mark.django_db
@pytest.mark.usefixtures("quick")
def test_calls_that_nobody_waits_for_are_bounded(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_abandoned", threading.BoundedSemaphore(1))
    operation = taken(alice)
    Operation.objects.update(cancel_requested=True)
    let_go = threading.Event()
    with pytest.raises(Cancelled):
        Patience(Progress(operation)).call(lambda _: let_go.wait(20), name="first")
    began = time.monotonic()
    threading.Timer(1.0, let_go.set).start()
    assert Patience(Progress(operation)).call(lambda _: let_go.wait(20), name="second") is True
    assert time.monotonic() - began > 0.8, "it was waited for: too many hang already"


@pytest.mark.django_db
def test_errors_of_a_call_are_those_of_the_operation(alice: User) -> None:
    def fail(_: object) -> None:
        raise EngineUnreachable("away")

    with pytest.raises(EngineUnreachable, match="away"):
        Patience(Progress(taken(alice))).call(fail, name="any")


@pytest.mark.django_db
def test_a_stream_that_comes_too_late_is_closed(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = taken(alice)
    Operation.objects.update(cancel_requested=True)
    let_go, closed = threading.Event(), threading.Event()

    class Stream:
        def close(self) -> None:
            closed.set()

    def attach(_: object) -> Stream:
        let_go.wait(20)
        return Stream()

    with pytest.raises(Cancelled):
        Patience(Progress(operation)).call(attach, name="attach", grace=0.1)
    let_go.set()
    assert closed.wait(timeout=10)


@pytest.mark.django_db
def test_a_worker_that_gives_no_sign_of_life_loses_its_lease(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process lives, and other workers in it do: that must not keep the lease of one that is stuck."""
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread.name))
    stuck, fine = taken(alice), taken(alice)
    for one in (stuck, fine):
        leases.hold(one.lease_owner)
    try:
        monkeypatch.setitem(leases._PULSES, stuck.lease_owner, time.monotonic() - leases.STUCK_AFTER - 1)
        past = Operation.objects.get(pk=stuck.pk).lease_until
        Operation.objects.update(lease_until="2020-01-01T00:00:00Z")
        world.workers.beat_once()
        world.workers.beat_once()
        assert started == ["worker-for-stuck-1"], "another thread goes on, once"
        again = leases.take(leases.process_name())
        assert again == stuck
        assert (again.attempt, past is not None) == (2, True)
        with pytest.raises(leases.LeaseLost):
            Progress(stuck).check()
        Progress(fine).check()
    finally:
        for one in (stuck, fine):
            leases.drop(one.lease_owner)


@pytest.mark.django_db
def test_waiting_for_a_call_is_a_sign_of_life(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = taken(alice)
    leases.hold(operation.lease_owner)
    try:
        monkeypatch.setitem(leases._PULSES, operation.lease_owner, 0.0)
        Patience(Progress(operation)).call(lambda _: time.sleep(0.8), name="long")
        assert time.monotonic() - leases._PULSES[operation.lease_owner] < 1
    finally:
        leases.drop(operation.lease_owner)


@pytest.mark.django_db
def test_what_nobody_can_do_is_refused_and_not_taken_again(world: World, alice: User) -> None:
    unknown = Operation.objects.create(kind="dance", requested_by=alice)
    done = world.work()
    assert (done, done.state) == (unknown, "failed")
    assert "does not do “dance”" in done.error
    assert not world.workers.work_once()
