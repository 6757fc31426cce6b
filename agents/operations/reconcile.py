"""Making rows and containers agree again, both ways: at start, after events and each minute."""

from __future__ import annotations

import logging
import re
import uuid

from django.db import transaction
from django.utils import timezone

from agents.engine.errors import EngineError
from agents.engine.types import LABEL_AGENT, ContainerInfo
from agents.models import (
    LIVE_STATES,
    OPEN_STATES,
    Agent,
    AgentStatus,
    AuditEvent,
    Operation,
    OperationKind,
    OperationState,
)
from agents.operations import audit, cleanup, freezing, snapshot_sweep, state_sweep
from agents.operations.ejecting import queue_again
from agents.operations.engines import Engines
from agents.operations.errors import Conflict
from agents.operations.streams import StreamSink
from agents.operations.transitions import move_agent

logger = logging.getLogger(__name__)

GONE = frozenset({"exited", "dead"})
WITHOUT_WORK = GONE | {"created"}


def reconcile(engines: Engines, *, streams: StreamSink) -> None:
    """Look at everything once; idempotent, safe beside workers. Raises EngineUnreachable, BrokerUnreachable.

    The engine is asked before the rows are read: what was made after that is not taken for a leftover, as an
    agent's row is always there before its objects, and they are gone before it ends.
    """
    containers = engines.engine.containers()
    networks = dict(engines.engine.networks())
    staged = engines.broker.staged()
    live = {agent.key: agent for agent in Agent.objects.filter(state__in=LIVE_STATES).select_related("owner")}
    for agent in live.values():
        mine = [one for one in containers if one.labels.get(LABEL_AGENT) == agent.key]
        _reconcile_agent(agent, mine, engines=engines, streams=streams)
    _remove_leftovers(live, containers, networks, engines=engines)
    _release_staging(staged, engines=engines)
    freezing.thaw_forgotten(engines, containers)
    snapshot_sweep.sweep(engines)
    state_sweep.sweep(engines)


def ended_because(container: ContainerInfo | None) -> str:
    """A sentence on why an agent is over."""
    if container is None:
        return "Its container was removed by somebody else."
    if container.oom_killed:
        return "It used more memory than its limit and was ended by the kernel."
    if container.exit_code == 0:
        return "Its program ended."
    return f"Its program ended with exit code {container.exit_code}."


def _reconcile_agent(agent: Agent, containers: list[ContainerInfo], *, engines: Engines, streams: StreamSink) -> None:
    if agent.state == AgentStatus.RUNNING:
        if not any(one.status not in GONE for one in containers):
            _end(agent, engines=engines, streams=streams)
    elif agent.state == AgentStatus.EJECTING:
        queue_again(agent)
    elif not Operation.objects.filter(agent=agent, kind=OperationKind.LAUNCH, state__in=OPEN_STATES).exists():
        _fail_lost_launch(agent, engines=engines, streams=streams)


def _end(agent: Agent, *, engines: Engines, streams: StreamSink) -> None:
    """End an agent without a running container; looks once more, as a launch may just have come to its end."""
    containers = cleanup.containers_of(engines, agent.key)
    if any(one.status not in GONE for one in containers):
        return
    reason = ended_because(containers[0] if containers else None)
    launches = [found.hex for found in agent.operations.filter(kind=OperationKind.LAUNCH).values_list("id", flat=True)]
    if cleanup.remove_objects(engines, key=agent.key, launches=launches):
        return  # the next minute tries again; until then the agent is shown as it was
    streams.drop(agent.key, reason)
    _move(agent, AgentStatus.ENDED, reason)
    logger.info("agent %s: ended: %s", agent.key, reason)


def _fail_lost_launch(agent: Agent, *, engines: Engines, streams: StreamSink) -> None:
    if not Agent.objects.filter(pk=agent.pk, state=AgentStatus.STARTING).exists():
        return
    if not cleanup.remove_objects(engines, key=agent.key):
        streams.drop(agent.key, "The launch was lost.")
        _move(agent, AgentStatus.FAILED, "The launch was lost: no operation works on it.")


def _move(agent: Agent, to: str, reason: str) -> None:
    try:
        with transaction.atomic(durable=True):
            move_agent(agent, to, actor=None, operation=_note(agent), reason=reason)
    except Conflict:  # a worker was faster
        logger.info("agent %s: moved by somebody else meanwhile", agent.key)


def _note(agent: Agent) -> Operation:
    """The row that says that this was done without anybody asking; inside the caller's transaction.

    Only what changed something gets one: a look that finds all in order happens each minute.
    """
    now = timezone.now()
    return Operation.objects.create(
        kind=OperationKind.RECONCILE, agent=agent, state=OperationState.SUCCEEDED, started_at=now, finished_at=now
    )


def _remove_leftovers(
    live: dict[str, Agent], containers: list[ContainerInfo], networks: dict[str, str], *, engines: Engines
) -> None:
    seen = {one.labels.get(LABEL_AGENT, "") for one in containers} | set(networks.values())
    known = set(Agent.objects.filter(key__in=seen).values_list("key", flat=True))
    for key in sorted(seen - live.keys() - {""}):
        working = [one for one in containers if one.labels.get(LABEL_AGENT) == key and one.status not in WITHOUT_WORK]
        if working and key not in known:
            _leave_alone(key, working[0])
        else:
            _remove_leftover(key, engines=engines)


def _leave_alone(key: str, container: ContainerInfo) -> None:
    """Rows are never deleted, so a running container without one says that the database was lost, or is an older copy.

    Then what is running may be somebody's only copy of their work: it is written down (once) and goes on, until the
    right database is back or root ends it with `serve --eject` or `manage.py eject_all`. Not even when the database
    has no agents at all does anything tell a fresh installation from a lost one; the mistake that loses nothing wins.
    """
    summary = f"agent {key}: {container.name} runs, but the database does not know it"
    with transaction.atomic(durable=True):
        if AuditEvent.objects.filter(action="leftovers.keep", summary=summary).exists():
            return
        audit.record("leftovers.keep", actor=None, summary=summary)
    logger.error("%s: left alone; `manage.py eject_all` removes it", summary)


def _remove_leftover(key: str, *, engines: Engines) -> None:
    left = cleanup.remove_objects(engines, key=key)
    logger.warning("agent %s: leftovers found, %s", key, "not all removed" if left else "removed")
    if not left:
        with transaction.atomic(durable=True):
            agent = Agent.objects.filter(key=key).first()
            note = _note(agent) if agent else None
            audit.record("leftovers.remove", actor=None, agent=agent, operation=note, summary=f"agent {key}")


def _release_staging(staged: list[str], *, engines: Engines) -> None:
    for launch in staged:
        if _is_open_launch(launch):
            continue
        try:
            engines.broker.release(launch)
            logger.warning("operation %s: leftover staging released", launch)
        except EngineError as error:
            logger.warning("operation %s: staging not released: %s", launch, error.message)


def _is_open_launch(launch: str) -> bool:
    if not re.fullmatch(r"[0-9a-f]{32}", launch):
        return False
    rows = Operation.objects.filter(pk=uuid.UUID(launch), kind=OperationKind.LAUNCH, state__in=OPEN_STATES)
    return rows.exists()
