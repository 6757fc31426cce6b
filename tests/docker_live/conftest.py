"""A failing live test says what its containers were doing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agents.host.own_engine import OwnEngine
from tests.support import evidence
from tests.support.service import Service


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add status, logs and redacted inspect of the containers to the report, while they are still there."""
    report: Any = yield
    if report.failed:
        for engine in engines_of(getattr(item, "funcargs", {})):
            report.sections.append((f"containers on {engine}", evidence.of_containers(engine) or "none"))
    return report  # type: ignore[no-any-return]


def engines_of(fixtures: dict[str, Any]) -> list[str]:
    """The sockets of the engines that a test's fixtures stand for."""
    found: dict[str, None] = {}
    for name, value in fixtures.items():
        if name == "engine_socket":
            found[str(value)] = None
        elif isinstance(value, Service | OwnEngine):
            found[str(value.instance.engine_socket if isinstance(value, Service) else value.api.path)] = None
        elif isinstance(engine := getattr(value, "engine", None), str):  # the broker's kit
            found[engine] = None
    return [*found]
