"""How long an account waits after failed logins: longer each time, never because of an address."""

from __future__ import annotations

import datetime
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Max, Sum
from django.utils import timezone

FIRST_WAIT = datetime.timedelta(seconds=5)
LONGEST_WAIT = datetime.timedelta(minutes=15)


def wait_after(failures: int) -> datetime.timedelta:
    """No wait below the limit, then 5 s, 10 s, 20 s … up to a quarter of an hour."""
    over: int = failures - settings.AXES_FAILURE_LIMIT
    if over < 0:
        return datetime.timedelta()
    return min(FIRST_WAIT * (1 << min(over, 20)), LONGEST_WAIT)


def seconds_left(username: str) -> int:
    """Whole seconds until `username` may try again; 0 if now."""
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    seen = AccessAttempt.objects.filter(username=username, attempt_time__gte=since).aggregate(
        failures=Sum("failures_since_start"), last=Max("attempt_time")
    )
    if not seen["failures"]:
        return 0
    left = seen["last"] + wait_after(seen["failures"]) - timezone.now()
    return max(0, -int(-left.total_seconds() // 1))


class GrowingDelayHandler(AxesDatabaseHandler):  # type: ignore[misc] # axes is untyped
    """Axes' own records, but locked only for as long as `wait_after` says since the last failure."""

    def is_locked(self, request: Any, credentials: dict[str, Any] | None = None) -> bool:
        username = (credentials or {}).get("username") or ""
        return seconds_left(str(username)) > 0
