"""Looking after states each minute: what is being purged goes on, unknown directories are written down, sizes."""

from __future__ import annotations

import datetime
import logging

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from agents.engine.errors import BrokerRefused, EngineError
from agents.models import OPEN_STATES, AgentState, AuditEvent, Operation
from agents.operations import audit, states
from agents.operations.engines import Engines
from agents.operations.purge_running import may_go_on

logger = logging.getLogger(__name__)

MOST_MEASURED = 5  # in one look; each may take some seconds
MOST_CALLS = 20
AGAIN_AFTER = datetime.timedelta(hours=1)


def sweep(engines: Engines) -> None:
    """Idempotent, safe beside workers: the broker is asked before the rows are read."""
    try:
        found = engines.broker.list_states()
        for row in AgentState.objects.filter(phase=AgentState.Phase.PURGING).select_related("owner"):
            busy = Operation.objects.filter(agent_state=row, state__in=OPEN_STATES).exists()
            never_used = row.last_used_at is None  # of a launch that came to nothing
            if not busy and states.user_of(row) is None and (never_used or may_go_on(row)):
                states.remove(row, engines)
        _empty_trash(found.trash, engines)
        for key in sorted(found.kept - set(AgentState.objects.values_list("key", flat=True))):
            _write_down(key)
        _measure(found.kept, engines)
    except EngineError as error:
        logger.warning("states: not looked at: %s", error.message)


def _empty_trash(keys: frozenset[str], engines: Engines) -> None:
    """What a crash left there, or what somebody who kept a descriptor still writes to."""
    worked_on = set(
        AgentState.objects.filter(key__in=keys, operations__state__in=OPEN_STATES).values_list("key", flat=True)
    )
    for key in sorted(keys - worked_on):
        for _ in range(MOST_CALLS):
            if engines.broker.purge_state(key).done:
                break


def _write_down(key: str) -> None:
    """Rows go after their files, so files without a row say that the database was lost, or is an older copy.

    Then they may be somebody's only copy: they stay, and are written down once.
    """
    summary = f"the state {key} lies on disk, but the database does not know it"
    with transaction.atomic(durable=True):
        if AuditEvent.objects.filter(action="state.unknown", summary=summary).exists():
            return
        audit.record("state.unknown", actor=None, summary=summary)
    logger.error("%s: left alone", summary)


def _measure(kept: frozenset[str], engines: Engines) -> None:
    old = Q(measured_at__lt=timezone.now() - AGAIN_AFTER)
    due = AgentState.objects.filter(Q(measured_at=None) | old, phase=AgentState.Phase.KEPT, key__in=kept)
    for state in due.order_by(F("measured_at").asc(nulls_first=True))[:MOST_MEASURED]:
        try:
            size = engines.broker.measure_state(state.key)
        except BrokerRefused as refused:  # purged meanwhile, or it hangs
            logger.info("state %s: not measured: %s", state.key, refused.message)
            continue
        AgentState.objects.filter(pk=state.pk).update(
            size=size.size, entries=size.entries, has_logins=size.logins, measured_at=timezone.now()
        )
