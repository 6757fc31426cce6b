"""How often a process may die before the service gives up."""

from __future__ import annotations

import collections

MOST = 5
WINDOW = 60.0
PAUSE = 0.2  # seconds more after each death within the window; the first restart is immediate


class RestartLimiter:
    """Counts the deaths of one process in the last minute."""

    def __init__(self, *, most: int = MOST, window: float = WINDOW) -> None:
        self._most = most
        self._window = window
        self._deaths: collections.deque[float] = collections.deque()

    def died(self, now: float) -> float | None:
        """Note a death at `now`; returns the seconds to wait before the restart, or None for no restart any more."""
        while self._deaths and now - self._deaths[0] >= self._window:
            self._deaths.popleft()
        self._deaths.append(now)
        if len(self._deaths) > self._most:
            return None
        return PAUSE * (len(self._deaths) - 1)
