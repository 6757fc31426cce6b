"""How tests make a fake fail, or look, at a named call."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Hooks:
    """`enter(name)` is the first line of each method of a fake."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._lock = threading.Lock()
        self._failures: dict[str, list[tuple[BaseException, bool]]] = {}
        self._before: dict[str, Callable[[], None]] = {}

    def fail_at(self, name: str, error: BaseException, *, always: bool = False) -> None:
        """The next call of `name` raises `error`; with `always` each from now on. Several are used up in order."""
        with self._lock:
            self._failures.setdefault(name, []).append((error, always))

    def before(self, name: str, action: Callable[[], None]) -> None:
        """Run `action` at the start of each call of `name`: to wait, to look, to change the world meanwhile."""
        self._before[name] = action

    def clear(self) -> None:
        """Forget failures and actions; `calls` stay."""
        with self._lock:
            self._failures.clear()
            self._before.clear()

    def enter(self, name: str) -> None:
        """Note the call, run its action, raise its failure."""
        with self._lock:
            self.calls.append(name)
            waiting = self._failures.get(name) or []
            failure = waiting[0] if waiting else None
            if failure is not None and not failure[1]:
                waiting.pop(0)
        if (action := self._before.get(name)) is not None:
            action()
        if failure is not None:
            raise failure[0]
