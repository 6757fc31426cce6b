"""Who works on which operation: a lease in the row, taken and kept by conditional UPDATEs."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.db import connections
from django.db.models import Case, Count, F, Q, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from agents.models import Operation, OperationKind, OperationState

LEASE = datetime.timedelta(seconds=60)
MOST_ATTEMPTS = 3
STUCK_AFTER = 120.0  # seconds: a worker that gave no sign of life for so long loses its lease
MOST_AT_ONCE = 3  # operations of one person under way: nobody takes all workers

ENDS = (OperationKind.EJECT, OperationKind.EXILE)

_TAKING = threading.Lock()  # else threads that wake together count before any of them has taken


_PULSES: dict[str, float] = {}  # by token: when the worker that holds it gave its last sign of life


class LeaseLost(Exception):
    """Another worker has the operation by now: stop, write nothing, tidy nothing."""


def process_name() -> str:
    """Names this process so that it can be told from a later one with the same number: `<pid>.<start>`."""
    return f"{os.getpid()}.{_started(os.getpid())}"


def take(process: str, *, urgent: bool = False) -> Operation | None:
    """Take the oldest operation that waits or whose worker is gone; None when there is none. `urgent`: an end only.

    Ends (ejects, exiles) go before everything else. One person has at most MOST_AT_ONCE operations under way, and as
    many ends besides: launches that take long keep nobody from ejecting, and an exile of many agents counts as one.
    The row's `lease_owner` is new for each take, so that of two threads of one process only one holds it.
    """
    with _TAKING:
        return _take(process, urgent=urgent)


def _take(process: str, *, urgent: bool) -> Operation | None:
    for found in _free(urgent=urgent)[:20]:
        token = f"{process}.{secrets.token_hex(6)}"
        same = Operation.objects.filter(
            pk=found.pk, state=found.state, lease_owner=found.lease_owner, lease_until=found.lease_until
        )
        if same.update(**_terms(token), started_at=Coalesce(F("started_at"), timezone.now())):
            rows = Operation.objects.select_related("agent__owner", "agent__agent_class", "requested_by")
            return rows.get(pk=found.pk)
    return None


def terms_of_new(process: str) -> dict[str, object]:
    """The fields of a row that is created as taken already, by `process` itself; see `kept`."""
    token = f"{process}.{secrets.token_hex(6)}"
    return _terms(token) | {"attempt": 1, "started_at": timezone.now()}


@contextlib.contextmanager
def kept(operation: Operation, *, every: float = 10.0) -> Iterator[None]:
    """Keep the lease of one operation while the block works on it: for processes without Workers."""
    over = threading.Event()
    token = operation.lease_owner

    def keep() -> None:
        while not over.wait(every):
            beat([token])
        connections.close_all()

    thread = threading.Thread(target=keep, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def pulse(token: str) -> None:
    """A sign of life of the worker that holds `token`; workers give one at each look, also while they wait."""
    if token in _PULSES:
        _PULSES[token] = time.monotonic()


def hold(token: str) -> None:
    """From now on the process keeps the lease for its worker, as long as that gives signs of life."""
    _PULSES[token] = time.monotonic()


def drop(token: str) -> None:
    _PULSES.pop(token, None)


def living() -> tuple[list[str], list[str]]:
    """Tokens of this process whose workers are alive, and of those that are stuck since STUCK_AFTER."""
    now = time.monotonic()
    held = dict(_PULSES)
    alive = [token for token, last in held.items() if now - last < STUCK_AFTER]
    return alive, [token for token in held if token not in alive]


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


def _free(*, urgent: bool) -> list[Operation]:
    open_rows = Operation.objects.filter(state__in=(OperationState.QUEUED, OperationState.RUNNING))
    if urgent:
        open_rows = open_rows.filter(kind__in=ENDS)
    rows = open_rows.only("pk", "state", "lease_owner", "lease_until").order_by(
        Case(When(kind__in=ENDS, then=0), default=1), "created_at"
    )
    now = timezone.now()
    expired = Q(state=OperationState.RUNNING, lease_until__lt=now)
    ends = Q(kind__in=ENDS)
    may_begin = (ends & ~Q(requested_by__in=_busy_people(now, ends))) | (
        ~ends & ~Q(requested_by__in=_busy_people(now, ~ends))
    )
    waiting = Q(state=OperationState.QUEUED) & may_begin
    found = list(rows.filter(waiting | expired)[:50])
    held = rows.filter(state=OperationState.RUNNING).exclude(expired)[:200]
    return found + [row for row in held if not is_alive(row.lease_owner)]


def _busy_people(now: datetime.datetime, kinds: Q) -> list[int]:
    """Those who have as many operations under way as one person may; what the service itself asked for is nobody's."""
    under_way = Operation.objects.filter(
        kinds, state=OperationState.RUNNING, lease_until__gte=now, requested_by__isnull=False
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
