"""What finished operations leave behind goes after its time; audit events stay for ever."""

from __future__ import annotations

import datetime
import logging

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from agents.models import LIVE_STATES, OPEN_STATES, Operation, OperationLog
from agents.operations import audit

logger = logging.getLogger(__name__)

EVERY = 3600.0  # seconds
MOST = 500  # operations in one transaction: nobody waits for the database meanwhile


def forget_old(now: datetime.datetime | None = None) -> tuple[int, int]:
    """Remove old output and old operations, some at a time; how many operations lost their output, and went.

    An operation of a live agent stays: its launch says what it was given.
    """
    at = now or timezone.now()
    logs = _forget_logs(at - datetime.timedelta(days=settings.JACKIN_KEEP_LOGS_DAYS))
    rows = _forget_operations(at - datetime.timedelta(days=settings.JACKIN_KEEP_OPERATIONS_DAYS))
    return logs, rows


def _forget_logs(before: datetime.datetime) -> int:
    ended = Operation.objects.exclude(state__in=OPEN_STATES).filter(finished_at__lt=before, log__isnull=False)
    found = list(ended.order_by("finished_at").distinct().values_list("pk", flat=True)[:MOST])
    if found:
        with transaction.atomic(durable=True):
            OperationLog.objects.filter(operation__in=found).delete()
            audit.record("logs.forget", actor=None, summary=f"output of {len(found)} operations")
    return len(found)


def _forget_operations(before: datetime.datetime) -> int:
    ended = Operation.objects.exclude(state__in=OPEN_STATES).filter(finished_at__lt=before)
    over = ended.exclude(agent__state__in=LIVE_STATES).order_by("finished_at")
    found = list(over.values_list("pk", flat=True)[:MOST])
    if found:
        with transaction.atomic(durable=True):
            Operation.objects.filter(pk__in=found).delete()
            audit.record("operations.forget", actor=None, summary=f"{len(found)} operations")
    return len(found)
