"""Agents and builds of different people are apart, whatever becomes of the engine's own rules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.docker_live.network_kit import ATTACKERS, Attacker, Net, engine_on_a_fake_host
from tests.support.knocking import Ears, ears, hears, knock
from tests.support.machine import run

pytestmark = pytest.mark.live
OTHER = "jackin-of-another"


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with engine_on_a_fake_host() as found:
        found.engine.ensure_network(OTHER, agent="1" * 32, operation="test")
        yield found
        found.engine.remove_network(OTHER)


@pytest.fixture
def without_the_engines_rules(net: Net) -> Iterator[None]:
    """`iptables -F` and an open policy in the namespace's table of the engine; all as it was afterwards."""
    inside = net.host.engine_space
    saved = run(*inside, "iptables-save", "-t", "filter")
    run(*inside, "iptables", "-w", "-P", "FORWARD", "ACCEPT")
    run(*inside, "iptables", "-w", "-F")
    yield
    run(*inside, "iptables-restore", "-T", "filter", text=saved)


@contextlib.contextmanager
def listening(net: Net, network: str) -> Iterator[tuple[Ears, list[tuple[str, int]]]]:
    """An agent of somebody else that listens; its places."""
    with net.sleeping_agent(network=network) as (address, pid):
        inside = ["nsenter", f"--target={pid}", "--net"]
        places = [(address, 53), (address, 7777)]
        with ears(inside, places) as found:
            yield found, places
            knock(inside, "itself", places)
            hears(found, "itself", places)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_another_persons_agent_hears_no_byte(net: Net, attacker: Attacker) -> None:
    with listening(net, OTHER) as (found, places):
        net.knock(attacker, places)
        assert found.heard == []


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_nor_while_the_engines_own_rules_are_gone(
    net: Net, without_the_engines_rules: None, attacker: Attacker
) -> None:
    with listening(net, OTHER) as (found, places):
        net.knock(attacker, places)
        assert found.heard == []


def test_a_user_of_the_host_reaches_no_agent_while_the_engines_own_rules_and_ours_on_the_host_are_gone(
    net: Net, without_the_engines_rules: None
) -> None:
    net.empty_the_hosts_rules()
    pool, inner = str(net.addresses.pool), str(net.addresses.inner)
    net.host.run("ip", "route", "replace", pool, "via", inner)
    try:
        with listening(net, OTHER) as (found, places):
            knock(net.host.inside, "user", places)
            assert found.heard == []
    finally:
        net.host.run("ip", "route", "del", pool)
        net.host.do("ensure")


def test_builds_of_different_people_share_a_bridge_and_hear_nothing_of_each_other(net: Net) -> None:
    with listening(net, "bridge") as (found, places):
        net.knock("build", places)
        assert found.heard == []
