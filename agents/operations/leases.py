"""Who works on which operation: a lease in the row, taken and kept by conditional UPDATEs."""

from __future__ import annotations

import datetime
import os
import re
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path

from django.db.models import Case, Count, F, Q, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from agents.models import Operation, OperationKind, OperationState

LEASE = datetime.timedelta(seconds=60)
MOST_ATTEMPTS = 3
MOST_AT_ONCE = 3  # operations of one person under way: nobody takes all workers

_TAKING = threading.Lock()  # else threads that wake together count before any of them has taken


class LeaseLost(Exception):
    """Another worker has the operation by now: stop, write nothing, tidy nothing."""


def process_name() -> str:
    """Names this process so that it can be told from a later one with the same number: `<pid>.<start>`."""
    return f"{os.getpid()}.{_started(os.getpid())}"


def take(process: str) -> Operation | None:
    """Take the oldest operation that waits or whose worker is gone; None when there is none.

    Ejects go before launches, and one person has at most MOST_AT_ONCE operations under way.
    The row's `lease_owner` is new for each take, so that of two threads of one process only one holds it.
    """
    with _TAKING:
        return _take(process)


def _take(process: str) -> Operation | None:
    for found in _free()[:20]:
        token = f"{process}.{secrets.token_hex(6)}"
        same = Operation.objects.filter(
            pk=found.pk, state=found.state, lease_owner=found.lease_owner, lease_until=found.lease_until
        )
        if same.update(**_terms(token), started_at=Coalesce(F("started_at"), timezone.now())):
            rows = Operation.objects.select_related("agent__owner", "agent__agent_class", "requested_by")
            return rows.get(pk=found.pk)
    return None


def beat(tokens: Iterable[str]) -> None:
    """Keep the leases with these tokens."""
    now = timezone.now()
    Operation.objects.filter(lease_owner__in=list(tokens), state=OperationState.RUNNING).update(
        lease_until=now + LEASE, heartbeat=now
    )


def holds(operation: Operation) -> bool:
    """Whether the lease that `operation` was taken with still stands."""
    return Operation.objects.filter(
        pk=operation.pk, state=OperationState.RUNNING, lease_owner=operation.lease_owner
    ).exists()


def is_alive(token: str) -> bool:
    """Whether the process that took the lease `token` still runs on this machine."""
    pid, _, rest = token.partition(".")
    started = rest.partition(".")[0]
    return re.fullmatch(r"[0-9]{1,10}", pid) is not None and started != "" and _started(int(pid)) == started


def _free() -> list[Operation]:
    open_rows = Operation.objects.filter(state__in=(OperationState.QUEUED, OperationState.RUNNING))
    rows = open_rows.only("pk", "state", "lease_owner", "lease_until").order_by(
        Case(When(kind=OperationKind.EJECT, then=0), default=1), "created_at"
    )
    now = timezone.now()
    expired = Q(state=OperationState.RUNNING, lease_until__lt=now)
    waiting = Q(state=OperationState.QUEUED) & ~Q(requested_by__in=_busy_people(now))
    found = list(rows.filter(waiting | expired)[:50])
    held = rows.filter(state=OperationState.RUNNING).exclude(expired)[:200]
    return found + [row for row in held if not is_alive(row.lease_owner)]


def _busy_people(now: datetime.datetime) -> list[int]:
    """Those who have as many operations under way as one person may; what the service itself asked for is nobody's."""
    under_way = Operation.objects.filter(
        state=OperationState.RUNNING, lease_until__gte=now, requested_by__isnull=False
    ).values("requested_by")
    return list(
        under_way.annotate(count=Count("pk")).filter(count__gte=MOST_AT_ONCE).values_list("requested_by", flat=True)
    )


def _terms(token: str) -> dict[str, object]:
    now = timezone.now()
    return {
        "state": OperationState.RUNNING,
        "lease_owner": token,
        "lease_until": now + LEASE,
        "heartbeat": now,
        "attempt": F("attempt") + 1,
    }


def _started(pid: int) -> str:
    """Start time of a process in clock ticks, field 22 of its stat; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
