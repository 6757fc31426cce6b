"""Who works on which operation: a lease in the row, taken and kept by conditional UPDATEs."""

from __future__ import annotations

import datetime
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from agents.models import Operation, OperationState

LEASE = datetime.timedelta(seconds=60)
MOST_ATTEMPTS = 3


class LeaseLost(Exception):
    """Another worker has the operation by now: stop, write nothing, tidy nothing."""


def process_name() -> str:
    """Names this process so that it can be told from a later one with the same number: `<pid>.<start>`."""
    return f"{os.getpid()}.{_started(os.getpid())}"


def take(process: str) -> Operation | None:
    """Take the oldest operation that waits or whose worker is gone; None when there is none.

    The row's `lease_owner` is new for each take, so that of two threads of one process only one holds it.
    """
    for found in _free()[:20]:
        token = f"{process}.{secrets.token_hex(6)}"
        same = Operation.objects.filter(
            pk=found.pk, state=found.state, lease_owner=found.lease_owner, lease_until=found.lease_until
        )
        if same.update(**_terms(token), started_at=Coalesce(F("started_at"), timezone.now())):
            rows = Operation.objects.select_related("agent__owner", "agent__agent_class", "requested_by")
            # JSON is read where the work can fail of it: a forged value must not come back here for ever.
            return rows.defer("request", "agent__agent_class__runtimes").get(pk=found.pk)
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
    rows = open_rows.order_by("created_at").only("pk", "state", "lease_owner", "lease_until")
    now = timezone.now()
    expired = Q(state=OperationState.RUNNING, lease_until__lt=now)
    found = list(rows.filter(Q(state=OperationState.QUEUED) | expired)[:50])
    held = rows.filter(state=OperationState.RUNNING).exclude(expired)[:200]
    return found + [row for row in held if not is_alive(row.lease_owner)]


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
