"""Looking after snapshots each minute: half made ones go, unknown files are written down."""

from __future__ import annotations

import logging
import re
import uuid

from django.db import transaction

from agents.engine.errors import EngineError
from agents.models import OPEN_STATES, AuditEvent, Operation, StateSnapshot
from agents.operations import audit
from agents.operations.engines import Engines
from agents.operations.purge_running import delete_snapshot_row, may_go_on

logger = logging.getLogger(__name__)


def sweep(engines: Engines) -> None:
    """Idempotent, safe beside workers: the archive is asked before the rows are read."""
    try:
        stored = engines.archive.all_keys()
        for row in StateSnapshot.objects.filter(phase=StateSnapshot.Phase.MAKING):
            if not _is_under_way(row.key):
                _forget(row, engines)
        for row in StateSnapshot.objects.filter(phase=StateSnapshot.Phase.PURGING).select_related("owner"):
            if not Operation.objects.filter(snapshot=row, state__in=OPEN_STATES).exists() and may_go_on(row):
                engines.archive.remove(row.key)
                with transaction.atomic(durable=True):
                    delete_snapshot_row(row, actor=None)
    except EngineError as error:
        logger.warning("snapshots: not looked at: %s", error.message)
        return
    known = set(StateSnapshot.objects.filter(key__in=stored).values_list("key", flat=True))
    for key in stored:
        if key not in known:
            _write_down(key)


def _is_under_way(key: str) -> bool:
    """Whether the operation that makes it is open: a snapshot has its operation's id as key."""
    if not re.fullmatch(r"[0-9a-f]{32}", key):
        return False
    return Operation.objects.filter(pk=uuid.UUID(key), state__in=OPEN_STATES).exists()


def _forget(row: StateSnapshot, engines: Engines) -> None:
    if re.fullmatch(r"[0-9a-f]{32}", row.key):
        engines.archive.remove(row.key)
    with transaction.atomic(durable=True):
        deleted, _ = StateSnapshot.objects.filter(pk=row.pk, phase=StateSnapshot.Phase.MAKING).delete()
        if deleted:
            audit.record("snapshot.unfinished", actor=None, summary=f"{row} was never finished, and is removed")


def _write_down(key: str) -> None:
    """Rows go after their file, so a file without a row says that the database was lost, or is an older copy.

    Then the file may be somebody's only copy: it stays, and is written down once.
    """
    summary = f"snapshot {key} is stored, but the database does not know it"
    with transaction.atomic(durable=True):
        if AuditEvent.objects.filter(action="snapshot.unknown", summary=summary).exists():
            return
        audit.record("snapshot.unknown", actor=None, summary=summary)
    logger.error("%s: left alone", summary)
