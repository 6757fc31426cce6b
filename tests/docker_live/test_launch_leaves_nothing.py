"""A launch that fails at each named step, and an eject, leave the machine as it was: real engine, real broker."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import pathlib
import pwd
from collections.abc import Iterator
from typing import Any

import pytest

from agents.engine.broker_client import BrokerClient
from agents.engine.client import DockerEngine
from agents.engine.errors import EngineError
from agents.engine.fake_archive import FakeArchive
from agents.models import Agent, AgentState, Operation, OperationKind
from agents.operations import leases
from agents.operations.engines import BuiltinImages, Engines
from agents.operations.launch import STEPS
from agents.operations.secret_store import SecretStore
from agents.operations.workers import Workers
from tests import factories
from tests.db.doubles import RecordedStreams
from tests.docker_live.broker_fixtures import ann, home, kit, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit
from tests.support.machine import Traces, run, same_traces
from tests.support.service import Service

pytestmark = pytest.mark.django_db(transaction=True)


class Fails:
    """`target`, whose call `name` does all its work and fails then: the worst moment."""

    def __init__(self, target: Any, name: str, *, nth: int = 1) -> None:
        self._target = target
        self._name = name
        self._left = nth
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name != self._name:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            self._left -= 1
            if self._left:
                return answer
            self.failed = True
            if hasattr(answer, "close"):
                answer.close()
            raise EngineError(f"{name} failed on purpose.", remedy="None, this is a test.")

        return call


class World:
    """The runner's parts, without its process, on the service's engine and a broker of the test's own."""

    def __init__(self, service: Service, kit: Kit) -> None:
        socket = str(service.instance.engine_socket)
        self.engine: Any = DockerEngine(socket, instance="jkfail")
        self.broker: Any = BrokerClient(kit.instance.broker_socket, guard=service.instance.guard_socket)
        bundle = service.environment.get("JACKIN_EXTRA_CA", "")
        builder = DockerEngine(socket, instance=service.instance.name)
        self.image_for: Any = BuiltinImages(builder, extra_ca=bundle, published_construct=False)
        self.streams = RecordedStreams()

    def work(self) -> Operation:
        """Take the one open operation and work on it to its end."""
        operation = Operation.objects.get(state="queued")
        engines = Engines(engine=self.engine, broker=self.broker, image_for=self.image_for, archive=FakeArchive())
        workers = Workers(
            engines, streams=self.streams, secrets=SecretStore(), process=leases.process_name(), threads=0
        )
        assert workers.work_once()
        operation.refresh_from_db()
        return operation


@pytest.fixture
def world(service: Service, kit: Kit) -> Iterator[World]:
    made = World(service, kit)
    engine = made.engine
    yield made
    made.streams.close()
    for container in engine.containers():  # of a launch that succeeded although it must not
        engine.remove_container(container.id)
    for network in engine.networks():
        engine.remove_network(network)


@pytest.fixture
def launched(home: pathlib.Path, ann: pwd.struct_passwd) -> Operation:
    """A queued launch of ann's, of a shell on a directory of hers."""
    return factories.launch(factories.person("ann"), mounts=(factories.mount(str(home), "/workspace/project", "rw"),))


FAULTS = [
    ("identity", "broker", "identity"),
    ("state", "broker", "make_state"),
    ("mounts", "broker", "stage"),
    ("image", "world", "image_for"),
    ("network", "broker", "network_ready"),
    ("network", "engine", "ensure_network"),
    ("container", "engine", "create_container"),
    ("container", "engine", "attach"),
    ("container", "engine", "start"),
    ("container", "engine", "resize"),
    ("verify", "broker", "admit"),
    ("ready", "engine", "container"),
]


def test_every_step_is_among_the_faults() -> None:
    assert [*dict.fromkeys(step for step, _, _ in FAULTS)] == list(STEPS)


@pytest.mark.parametrize(("step", "part", "call"), FAULTS)
def test_a_launch_that_fails_leaves_nothing(
    service: Service, world: World, launched: Operation, step: str, part: str, call: str
) -> None:
    before = Traces.of(service.instance)
    if part == "world":
        fault = Fails(world, call)
        world.image_for = fault.image_for
    else:
        fault = Fails(getattr(world, part), call, nth=2 if step == "ready" else 1)
        setattr(world, part, fault)
    done = world.work()
    assert fault.failed
    assert (done.state, done.failed_step) == ("failed", step), done.error
    assert "failed on purpose" in done.error
    assert Agent.objects.get().state == "failed"
    assert world.streams.held == {}
    same_traces(service.instance, before)
    used = step == "ready"  # the gate was opened: the state may hold something by now
    assert (AgentState.objects.exists(), world.broker.list_states().kept != frozenset()) == (used, used)


class LosesMount:
    """A broker of which a staged mount vanishes right after it was made, as when root unmounts it by hand."""

    def __init__(self, target: Any, which: str) -> None:
        self._target = target
        self._which = which

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def stage(self, *args: Any, **named: Any) -> Any:
        staging = self._target.stage(*args, **named)
        run(
            "umount",
            {"source": staging.mounts[0].staged, "gate": staging.gate, "secrets": staging.secrets}[self._which],
        )
        return staging


@pytest.mark.parametrize("which", ["source", "gate", "secrets"])
def test_a_staged_mount_that_vanishes_ends_the_launch(
    service: Service, world: World, launched: Operation, which: str
) -> None:
    before = Traces.of(service.instance)
    world.broker = LosesMount(world.broker, which)
    done = world.work()
    assert done.state == "failed", "an empty directory was bound in silence, and the agent runs on it"
    assert done.failed_step in {"container", "verify"}, done.error
    assert Agent.objects.get().state == "failed"
    same_traces(service.instance, before)


def test_a_launch_and_an_eject_leave_nothing(service: Service, world: World, launched: Operation) -> None:
    before = Traces.of(service.instance)
    done = world.work()
    assert done.state == "succeeded", f"{done.failed_step}: {done.error}"
    running = Traces.of(service.instance)
    assert set(before.difference(running)) >= {"containers", "networks", "mounts"}
    agent = Agent.objects.get()
    factories.Operation.objects.create(kind=OperationKind.EJECT, agent=agent, requested_by=agent.owner)
    done = world.work()
    assert done.state == "succeeded", done.error
    same_traces(service.instance, before)
