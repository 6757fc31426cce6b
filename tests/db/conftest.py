"""Engine and broker in memory, and a service around them that the gateway reaches without a socket."""

from __future__ import annotations

import dataclasses
import pathlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pytest_django import Settings

from agents.broker import wire
from agents.engine.fake import FakeEngine
from agents.engine.fake_archive import FakeArchive
from agents.engine.fake_broker import FakeBroker
from agents.engine.feed_client import FeedClient
from agents.engine.images import BASE_TAG
from agents.engine.types import LaunchSpec
from agents.models import Agent, Operation, User
from agents.operations import gateway, leases
from agents.operations.engines import BuiltinImages, Engines
from agents.operations.runner_service import RunnerService
from agents.operations.secret_store import SecretStore
from agents.operations.workers import Workers
from tests import factories
from tests.db.doubles import Broken, RecordedStreams
from tests.support.terminals import TerminalsProcess, terminals_process


@dataclasses.dataclass(kw_only=True)
class World:
    """Everything that a runner works with; `engine` and `broker` can be broken call by call."""

    engine: Broken
    broker: Broken
    images: Broken
    archive: Broken
    streams: RecordedStreams
    secrets: SecretStore
    engines: Engines
    workers: Workers

    def work(self) -> Operation:
        """Take the one operation that waits, work on it, and return its row."""
        waiting = list(Operation.objects.filter(state__in=("queued", "running")))
        assert len(waiting) == 1, waiting
        assert self.workers.work_once()
        return Operation.objects.get(pk=waiting[0].pk)

    def end(self, container: str, *, exit_code: int = 0, oom: bool = False) -> None:
        """The container ends by itself."""
        self.engine.target.exits(container, code=exit_code, oom_killed=oom)

    def specs(self) -> list[LaunchSpec]:
        """What the containers were made from."""
        return [self.engine.target.fake(one.id).spec for one in self.engine.target.containers()]

    def objects(self) -> tuple[list[str], list[str], list[str]]:
        """What there is now: containers, networks, stagings."""
        engine, broker = self.engine.target, self.broker.target
        return [one.name for one in engine.containers()], list(engine.networks()), broker.staged()


NOTHING: tuple[list[str], list[str], list[str]] = ([], [], [])


INODE = 2**63 + 5  # more than a signed integer of the database holds


class Images:
    """The real builds of the class, on the engine in memory."""

    def __init__(self, engine: FakeEngine) -> None:
        self.image_for = BuiltinImages(engine, extra_ca="", published_construct=False)


def prepared_engine() -> FakeEngine:
    engine = FakeEngine()
    engine.images[BASE_TAG] = {}
    return engine


def prepared_broker() -> FakeBroker:
    """Two people with accounts; both may read and write the project that the factories ask for."""
    broker = FakeBroker()
    broker.add_link("alice", "alice-unix")
    broker.add_link("bob", "bob-unix", uid=1002)
    broker.add_path("/home/alice/project", "alice-unix", "bob-unix", inode=INODE)
    broker.add_path("/home/bob/project", "bob-unix")
    return broker


@pytest.fixture
def world() -> Iterator[World]:
    engine, broker = Broken(prepared_engine()), Broken(prepared_broker())
    images, archive = Broken(Images(engine.target)), Broken(FakeArchive())
    engines = Engines(
        engine=engine,  # type: ignore[arg-type]
        broker=broker,  # type: ignore[arg-type]
        image_for=images.image_for,
        archive=archive,  # type: ignore[arg-type]
        in_place=True,
    )
    streams, secrets = RecordedStreams(), SecretStore()
    workers = Workers(engines, streams=streams, secrets=secrets, process=leases.process_name(), threads=0)
    yield World(
        engine=engine,
        broker=broker,
        images=images,
        archive=archive,
        streams=streams,
        secrets=secrets,
        engines=engines,
        workers=workers,
    )
    streams.close()


@pytest.fixture
def gate(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """The gateway talks to the runner's service in this process; returns the requests that were made."""
    service = RunnerService(world.engines, secrets=world.secrets, wake=lambda: None)
    seen: list[Mapping[str, Any]] = []

    def call(path: str, request: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
        seen.append(request)
        sent = wire.decode(wire.encode(request, most=wire.MOST_REQUEST)[4:])
        return wire.decode(wire.encode(service.answer(sent))[4:])

    monkeypatch.setattr(gateway.wire, "call", call)
    return seen


# ── A terminal's websocket: its owner, an agent, the real terminals process, the program's end of the TTY ──


@pytest.fixture
def owner(alice: User) -> Any:
    from tests.support.websockets import Person  # the application: not before the settings of tests are made

    return Person(alice)


@pytest.fixture
def agent(alice: User) -> Agent:
    return factories.agent(alice)


@pytest.fixture
def terminals(tmp_path: pathlib.Path, settings: Settings) -> Iterator[TerminalsProcess]:
    with terminals_process(tmp_path) as process:
        settings.JACKIN_TERMINALS_SOCKET = process.viewer_path
        yield process


@pytest.fixture
def feed(terminals: TerminalsProcess) -> Iterator[FeedClient]:
    client = FeedClient(terminals.feed_path)
    client.connect()
    yield client
    client.close()


@pytest.fixture
def tty(feed: FeedClient, agent: Agent) -> Iterator[socket.socket]:
    """The program's end of the agent's terminal; the other one is handed to the real process."""
    program, ours = socket.socketpair()
    feed.push(agent.key, ours, 24, 80)
    program.settimeout(10)
    yield program
    program.close()
