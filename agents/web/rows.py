"""The rows of the list of agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Prefetch, QuerySet

from agents.models import LIVE_STATES, Agent, AgentStatus, Operation, OperationKind
from agents.operations.mounts import mounts_of_request
from agents.web.names import runtime_title
from agents.web.shown import ShownOperation

MOST_ROWS = 100

SHOW = {"all": "All", "live": "Live", "ended": "Ended", "failed": "Failed"}
_NOTHING = {
    "all": "You have no agents.",
    "live": "No agent of yours runs now.",
    "ended": "No agent of yours has ended.",
    "failed": "No agent of yours failed.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentRow:
    """`operation` is the one to watch while the agent starts or ejects, else the launch to repeat."""

    agent: Agent
    project: str
    rw: int
    ro: int
    note: str
    runtime: str
    operation: Operation | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    value: str
    label: str
    count: int
    current: bool


def filters(agents: QuerySet[Agent], *, show: str) -> list[Filter]:
    """The choices above the list, with their numbers."""
    states = list(agents.order_by().values_list("state", flat=True))
    counts = {
        "all": len(states),
        "live": sum(state in LIVE_STATES for state in states),
        "ended": states.count(AgentStatus.ENDED),
        "failed": states.count(AgentStatus.FAILED),
    }
    return [Filter(value=v, label=label, count=counts[v], current=v == show) for v, label in SHOW.items()]


def nothing(show: str) -> str:
    return _NOTHING[show]


def chosen(agents: QuerySet[Agent], *, show: str) -> QuerySet[Agent]:
    """The agents of one choice, with all that a row needs."""
    states = {"live": LIVE_STATES, "ended": (AgentStatus.ENDED,), "failed": (AgentStatus.FAILED,)}.get(show)
    wanted = agents.filter(state__in=states) if states else agents
    operations = Operation.objects.select_related("agent__owner").prefetch_related("steps").order_by("-created_at")
    return wanted.prefetch_related("grants", Prefetch("operations", queryset=operations))


def rows(agents: Iterable[Agent]) -> list[AgentRow]:
    return [_row(agent) for agent in agents]


def _row(agent: Agent) -> AgentRow:
    operations = list(agent.operations.all())
    launch = next((o for o in operations if o.kind == OperationKind.LAUNCH), None)
    busy = next((o for o in operations if o.is_open), None)
    mounts = mounts_of(agent, launch)
    return AgentRow(
        agent=agent,
        project=str(mounts[0]["source"]) if mounts else "",
        rw=sum(mount["mode"] == "rw" for mount in mounts),
        ro=sum(mount["mode"] != "rw" for mount in mounts),
        note=ShownOperation(busy).note if busy else agent.end_reason,
        runtime=runtime_title(agent.runtime),
        operation=busy or launch,
    )


def mounts_of(agent: Agent, launch: Operation | None) -> list[Mapping[str, Any]]:
    """What was granted; while nothing is, what was asked for."""
    granted: list[Mapping[str, Any]] = [
        {"source": g.source_asked, "destination": g.destination, "mode": g.mode} for g in agent.grants.all()
    ]
    return granted or asked_of(launch)


def asked_of(launch: Operation | None) -> list[Mapping[str, Any]]:
    """What a launch asked for, as far as its row can be read."""
    asked = mounts_of_request(launch.request) if launch else ()
    return [dataclasses.asdict(mount) for mount in asked or ()]
