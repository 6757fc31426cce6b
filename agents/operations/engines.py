"""The one place that builds engine and broker for the runner; the web processes have no use for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from django.conf import settings

from agents.engine import images
from agents.engine.api import Broker, Engine
from agents.engine.archive_client import ArchiveClient
from agents.engine.archives import Archive
from agents.engine.broker_client import BrokerClient
from agents.engine.client import DockerEngine
from agents.operations.errors import Unavailable


class ImageMaker(Protocol):
    """Makes sure that the image of a class and a runtime exists."""

    def __call__(self, folder: str, runtime: str, *, log: Callable[[str], None], cancelled: Callable[[], bool]) -> str:
        """The tag to start; builds what is missing. Raises BuildFailed, Cancelled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engines:
    """What the runner works with. `in_place`: calls are made in the worker's own thread, and so cannot be given up
    (tests whose rows no other thread sees)."""

    engine: Engine
    broker: Broker
    image_for: ImageMaker
    archive: Archive
    in_place: bool = False


class BuiltinImages:
    """Makes the images of this release's own classes from the folder docker/."""

    def __init__(self, engine: Engine, *, extra_ca: str, published_construct: bool) -> None:
        self._engine = engine
        self._extra_ca = extra_ca
        self._published_construct = published_construct

    def __call__(self, folder: str, runtime: str, *, log: Callable[[str], None], cancelled: Callable[[], bool]) -> str:
        tags = images.ensure_images(
            self._engine,
            Path(settings.BASE_DIR) / "docker",
            agent_class=folder,
            runtimes=[runtime],
            extra_ca=self._bundle(),
            log=log,
            cancelled=cancelled,
            published_construct=self._published_construct,
        )
        return tags[runtime]

    def _bundle(self) -> bytes | None:
        if not self._extra_ca:
            return None
        try:
            return Path(self._extra_ca).read_bytes()
        except OSError as error:
            raise Unavailable(
                f"The certificates of JACKIN_EXTRA_CA cannot be read: {self._extra_ca}: {error.strerror}.",
                remedy="Correct JACKIN_EXTRA_CA and start the service again.",
            ) from error


def build_engines() -> Engines:
    """Engine, broker and image maker of this instance, as the settings say. Connects to nothing yet."""
    broker = BrokerClient(settings.JACKIN_BROKER_SOCKET, guard=settings.JACKIN_GUARD_SOCKET)
    # Steps of a build run what somebody else wrote, on the agents' network: the rules must stand for them, too.
    engine = DockerEngine(
        settings.JACKIN_ENGINE_SOCKET, instance=settings.JACKIN_INSTANCE, before_build=broker.network_ready
    )
    made = BuiltinImages(
        engine, extra_ca=settings.JACKIN_EXTRA_CA, published_construct=settings.JACKIN_PUBLISHED_CONSTRUCT
    )
    archive = ArchiveClient(settings.JACKIN_ARCHIVER_SOCKET)
    return Engines(engine=engine, broker=broker, image_for=made, archive=archive)
