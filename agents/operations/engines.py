"""The one place that builds engine and broker for the runner; the web processes have no use for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from django.conf import settings

from agents.engine.api import Broker, Engine


class ImageMaker(Protocol):
    """Makes sure that the image of a class and a runtime exists."""

    def __call__(self, folder: str, runtime: str, *, log: Callable[[str], None], cancelled: Callable[[], bool]) -> str:
        """The tag to start; builds what is missing. Raises BuildFailed, Cancelled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engines:
    """What the runner works with."""

    engine: Engine
    broker: Broker
    image_for: ImageMaker


def build_engines() -> Engines:
    """Engine, broker and image maker of this instance, as the settings say. Connects to nothing yet."""
    from agents.engine.broker_client import BrokerClient
    from agents.engine.client import DockerEngine
    from agents.engine.images import ImageBuilder

    engine = DockerEngine(settings.JACKIN_ENGINE_SOCKET, instance=settings.JACKIN_INSTANCE)
    broker = BrokerClient(settings.JACKIN_BROKER_SOCKET, guard=settings.JACKIN_GUARD_SOCKET)
    return Engines(engine=engine, broker=broker, image_for=ImageBuilder(engine))
