"""Engine and broker in memory, and a service around them that the gateway reaches without a socket."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from agents.broker import wire
from agents.models import Operation
from agents.operations import gateway, leases
from agents.operations.engines import Engines
from agents.operations.runner_service import RunnerService
from agents.operations.secret_store import SecretStore
from agents.operations.workers import Workers
from tests.db.doubles import Broken, RecordedStreams
from tests.db.memory import MemoryBroker, MemoryEngine


@dataclasses.dataclass(kw_only=True)
class World:
    """Everything that a runner works with; `engine` and `broker` can be broken call by call."""

    engine: Broken
    broker: Broken
    images: Broken
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

    def objects(self) -> tuple[list[str], list[str], list[str]]:
        """What there is now: containers, networks, stagings."""
        engine, broker = self.engine.target, self.broker.target
        return [one.name for one in engine.containers()], list(engine.networks()), broker.staged()


NOTHING: tuple[list[str], list[str], list[str]] = ([], [], [])


class Images:
    """Makes every image at once."""

    def image_for(self, folder: str, runtime: str, *, log: Callable[[str], None], cancelled: Callable[[], bool]) -> str:
        log(f"building {folder} for {runtime}")
        return f"jackin/{folder}-{runtime}:1"


@pytest.fixture
def world() -> Iterator[World]:
    engine, broker = Broken(MemoryEngine()), Broken(MemoryBroker())
    images = Broken(Images())
    engines = Engines(engine=engine, broker=broker, image_for=images.image_for)  # type: ignore[arg-type]
    streams, secrets = RecordedStreams(), SecretStore()
    workers = Workers(engines, streams=streams, secrets=secrets, process=leases.process_name(), threads=0)
    yield World(
        engine=engine,
        broker=broker,
        images=images,
        streams=streams,
        secrets=secrets,
        engines=engines,
        workers=workers,
    )
    streams.close()
    engine.target.close()


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
