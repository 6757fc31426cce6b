"""Starting a container while the engine looks for a containerd that was just restarted."""

from __future__ import annotations

from typing import Any

import pytest

from agents.engine import containers
from agents.engine.containers import sdk_errors

AWAY = (
    'connection error: desc = "transport: Error while dialing dial unix containerd.sock: connect: connection refused"'
)


class Container:
    def __init__(self, *said: str) -> None:
        self.said = list(said)
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        if self.said:
            raise sdk_errors.APIError("500", explanation=self.said.pop(0))


def start(container: Container) -> None:
    containers.start(container)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = iter(range(1000))
    monkeypatch.setattr(containers.time, "sleep", lambda _: None)
    monkeypatch.setattr(containers.time, "monotonic", lambda: next(clock))


def test_it_waits_for_containerd() -> None:
    container = Container(AWAY, AWAY)
    start(container)
    assert container.starts == 3


def test_it_does_not_wait_for_ever() -> None:
    container = Container(*[AWAY] * 50)
    with pytest.raises(sdk_errors.APIError):
        start(container)
    assert container.starts <= 12


def test_any_other_failure_is_one() -> None:
    container = Container("no such file or directory")
    with pytest.raises(sdk_errors.APIError):
        start(container)
    assert container.starts == 1
