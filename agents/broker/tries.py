"""Counts attempts in a sliding window: so many for a key, and no more until the oldest is over."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

MOST_KEYS = 10_000


class Tries:
    """At most `most` in `seconds` for each key; usable from any thread. Forgets when the process ends."""

    def __init__(self, *, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._seen: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait(self, key: str) -> int:
        """Whole seconds until the next attempt is allowed; 0 if now."""
        with self._lock:
            seen = self._recent(key)
            return 0 if len(seen) < self._most else max(1, -int(-(seen[0] + self._seconds - self._clock()) // 1))

    def count(self, key: str) -> None:
        """There was an attempt."""
        with self._lock:
            if key not in self._seen and len(self._seen) >= MOST_KEYS:
                self._forget_old()
            self._seen.setdefault(key, deque(maxlen=self._most)).append(self._clock())

    def _recent(self, key: str) -> deque[float]:
        seen = self._seen.get(key, deque())
        while seen and seen[0] <= self._clock() - self._seconds:
            seen.popleft()
        if not seen:
            self._seen.pop(key, None)
        return seen

    def _forget_old(self) -> None:
        """Those whose time is over; where none is, the one that was there first."""
        for key in list(self._seen):
            self._recent(key)
        if len(self._seen) >= MOST_KEYS:
            del self._seen[next(iter(self._seen))]
