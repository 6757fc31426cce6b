"""Images for every class that may be launched, made ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agents.models import AgentClass
from agents.operations import policy
from agents.operations.engines import Engines


def prepare_images(engines: Engines, *, log: Callable[[str], None]) -> Iterator[tuple[str, str, str]]:
    """Make each enabled class's images; yields slug, runtime and tag. Raises BuildFailed, EngineUnreachable."""
    for agent_class in AgentClass.objects.filter(enabled=True):
        folder = policy.builtin_folder(agent_class)
        for runtime in agent_class.runtimes:
            yield agent_class.slug, runtime, engines.image_for(folder, runtime, log=log, cancelled=lambda: False)
