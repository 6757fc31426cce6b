"""An agent's network: made once, found by label, removed with what hangs on it."""

from __future__ import annotations

import pytest

from agents.engine.errors import Conflict
from tests.support.engine_kit import Kit


def test_ensure_makes_it_once(kit: Kit) -> None:
    spec = kit.launch_spec()
    first = kit.engine.ensure_network(spec.network, agent=spec.agent, operation="op-1")
    assert kit.engine.ensure_network(spec.network, agent=spec.agent, operation="op-2") == first
    assert kit.engine.networks() == {spec.network: spec.agent}


def test_a_name_that_begins_alike_is_another_network(kit: Kit) -> None:
    first, second = kit.launch_spec("ab"), kit.launch_spec("a")
    assert kit.engine.networks() == {first.network: first.agent, second.network: second.agent}
    kit.engine.remove_network(second.network)
    assert kit.engine.networks() == {first.network: first.agent}


def test_the_network_of_another_agent_is_a_conflict(kit: Kit) -> None:
    spec = kit.launch_spec()
    with pytest.raises(Conflict, match=spec.network):
        kit.engine.ensure_network(spec.network, agent="0" * 32, operation="op-1")


def test_networks_of_others_are_left_alone(kit: Kit) -> None:
    other = kit.add_foreign_network()
    assert other not in kit.engine.networks()
    with pytest.raises(Conflict, match=other):
        kit.engine.ensure_network(other, agent="1" * 32, operation="op-1")
    with pytest.raises(Conflict, match=other):
        kit.engine.remove_network(other)


def test_remove_cuts_off_a_running_container_and_may_be_repeated(kit: Kit) -> None:
    spec = kit.launch_spec()
    kit.engine.start(kit.engine.create_container(spec))
    for _ in range(2):
        kit.engine.remove_network(spec.network)
        assert kit.engine.networks() == {}
