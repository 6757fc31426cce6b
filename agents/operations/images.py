"""Images for every class that may be launched, made ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agents.engine.images import RUNTIMES
from agents.models import AgentClass
from agents.operations import policy
from agents.operations.engines import Engines
from agents.operations.errors import Refused


def prepare_images(engines: Engines, *, log: Callable[[str], None]) -> Iterator[tuple[str, str, str]]:
    """Make each enabled class's images; yields slug, runtime and tag. Raises BuildFailed, EngineUnreachable.

    A class that is none of this release's own is left out: a forged row must not keep the service from starting.
    """
    for agent_class in AgentClass.objects.filter(enabled=True):
        try:
            folder = policy.builtin_folder(agent_class)
        except Refused as refused:
            log(refused.message)
            continue
        for runtime in RUNTIMES:
            if runtime not in agent_class.offered:
                continue
            yield agent_class.slug, runtime, engines.image_for(folder, runtime, log=log, cancelled=lambda: False)
