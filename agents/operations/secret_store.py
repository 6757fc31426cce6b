"""Secrets of launches that wait or run: in this process's memory, bounded in number and time, nowhere else."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping

MOST_LAUNCHES = 256
KEPT_UNUSED = 15 * 60.0  # seconds


class SecretStore:
    """Thread-safe. Values never appear in its representation."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[uuid.UUID, tuple[float, dict[str, str]]] = {}

    def put(self, operation: uuid.UUID, secrets: Mapping[str, str]) -> bool:
        """Keep them; False when there are too many already or this operation has some."""
        with self._lock:
            self._forget_old()
            if operation in self._held or len(self._held) >= MOST_LAUNCHES:
                return False
            self._held[operation] = (self._clock(), dict(secrets))
            return True

    def get(self, operation: uuid.UUID) -> dict[str, str] | None:
        """A copy, or None; having been asked for keeps them longer."""
        with self._lock:
            held = self._held.get(operation)
            if held is None:
                return None
            self._held[operation] = (self._clock(), held[1])
            return dict(held[1])

    def drop(self, operation: uuid.UUID) -> None:
        with self._lock:
            self._held.pop(operation, None)

    def operations(self) -> list[uuid.UUID]:
        """Whose secrets are held."""
        with self._lock:
            return list(self._held)

    def _forget_old(self) -> None:
        oldest = self._clock() - KEPT_UNUSED
        for operation in [one for one, (at, _) in self._held.items() if at < oldest]:
            del self._held[operation]

    def __repr__(self) -> str:
        return f"<SecretStore of {len(self._held)}>"
