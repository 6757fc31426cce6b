"""Calls of engine and broker that never come back, or only when a test lets them."""

from __future__ import annotations

import threading
from typing import Any, Literal


class Hangs:
    """`target`, whose call `name` blocks before or after its work until `let_go()`.

    One more part that may hang (a sidecar that never answers) is one more name.
    """

    def __init__(self, target: Any, name: str, *, when: Literal["before", "after"], nth: int = 1) -> None:
        self._target = target
        self._name = name
        self._when = when
        self._left = nth
        self.now_hangs = threading.Event()
        self._let_go = threading.Event()
        self.went_on = threading.Event()

    def let_go(self) -> None:
        self._let_go.set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name != self._name:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left:
                return found(*args, **kwargs)
            if self._when == "before":
                self._hang()
                try:
                    return found(*args, **kwargs)
                finally:
                    self.went_on.set()
            answer = found(*args, **kwargs)
            self._hang()
            return answer

        return call

    def _hang(self) -> None:
        self.now_hangs.set()
        assert self._let_go.wait(timeout=120)
