"""The suite's engines: one in memory, one real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine_kit import FakeKit, Kit, RealKit, real_kit


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.live)])
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Both engines, one after the other."""
    if request.param == "fake":
        yield FakeKit()
        return
    with real_kit(request.getfixturevalue("engine_socket")) as found:
        yield found


@pytest.fixture
def real(engine_socket: str) -> Iterator[RealKit]:
    """The real engine only: for what a fake cannot show."""
    with real_kit(engine_socket) as found:
        yield found
