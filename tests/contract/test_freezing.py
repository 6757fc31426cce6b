"""Freezing a container and letting it go on."""

from __future__ import annotations

import pytest

from agents.engine.errors import NotFound
from tests.support.engine_kit import Kit


def started(kit: Kit) -> str:
    spec = kit.launch_spec()
    container = kit.engine.create_container(spec)
    kit.engine.start(container)
    assert status(kit, container) == "running"
    return container


def status(kit: Kit, container: str) -> str:
    found = kit.engine.container(container)
    return found.status if found else "gone"


def test_it_is_frozen_and_goes_on_however_often_that_is_asked(kit: Kit) -> None:
    container = started(kit)
    for _ in range(2):
        kit.engine.pause(container)
        assert status(kit, container) == "paused"
    for _ in range(2):
        kit.engine.unpause(container)
        assert status(kit, container) == "running"


def test_what_does_not_run_is_not_frozen(kit: Kit) -> None:
    container = kit.engine.create_container(kit.launch_spec())
    kit.engine.pause(container)
    kit.engine.unpause(container)
    assert status(kit, container) == "created"


def test_what_is_not_there_cannot_be_frozen_but_thawed(kit: Kit) -> None:
    kit.engine.unpause("f" * 64)
    with pytest.raises(NotFound):
        kit.engine.pause("f" * 64)


def test_a_foreign_container_is_not_frozen(kit: Kit) -> None:
    foreign = kit.add_foreign_container()
    with pytest.raises(NotFound):
        kit.engine.pause(foreign)


def test_a_frozen_one_can_be_stopped(kit: Kit) -> None:
    container = started(kit)
    kit.engine.pause(container)
    kit.engine.stop(container, grace=1)
    assert status(kit, container) == "exited"


def test_a_frozen_one_can_be_removed(kit: Kit) -> None:
    container = started(kit)
    kit.engine.pause(container)
    kit.engine.remove_container(container)
    assert status(kit, container) == "gone"
