"""A container of the host's ordinary engine, on this machine itself, hears nothing from agents and builds of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.docker_live.network_kit import ATTACKERS, Attacker, Attackers, attackers
from tests.support.knocking import ears, hears, knock
from tests.support.machine import run
from tests.support.ordinary_engine import IMAGE, OrdinaryEngine, ordinary_engine

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def ours(engine_socket: str) -> Iterator[Attackers]:
    with attackers(engine_socket, instance="jkbeside") as found:
        yield found


@pytest.fixture(scope="module")
def ordinary(ours: Attackers) -> Iterator[OrdinaryEngine]:
    with ordinary_engine() as found:
        yield found


def inspected(engine: OrdinaryEngine, container: str) -> tuple[str, str, int]:
    """Address, gateway and process id of one of its containers."""
    found = json.loads(engine.docker("inspect", container))[0]
    network = found["NetworkSettings"]
    return str(network["IPAddress"]), str(network["Gateway"]), int(found["State"]["Pid"])


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_a_container_of_the_ordinary_engine_hears_no_byte(
    ours: Attackers, ordinary: OrdinaryEngine, attacker: Attacker
) -> None:
    published = ["-p", "0.0.0.0:17790:7790", "-p", "0.0.0.0:17790:7790/udp"]
    container = ordinary.docker("run", "-d", *published, IMAGE, "busybox", "sleep", "600").strip()
    address, gateway, pid = inspected(ordinary, container)
    inside = [(address, 7790)]
    with ears(["nsenter", f"--target={pid}", "--net"], inside) as it, ears([], [(gateway, 7791)]) as here:
        mine = [entry["local"] for link in _links() for entry in link["addr_info"] if link["ifname"] != "lo"]
        assert gateway in mine
        ours.knock(attacker, [*inside, (gateway, 7791), *((one, 17790) for one in mine)])
        assert [*it.heard, *here.heard] == []
        knock([], "host", [*inside, (gateway, 7791)])
        hears(it, "host", inside)
        hears(here, "host", [(gateway, 7791)])
    ordinary.docker("rm", "-f", container)


def _links() -> list[dict[str, list[dict[str, str]]]]:
    found: list[dict[str, list[dict[str, str]]]] = json.loads(run("ip", "-j", "-4", "addr"))
    return found


def test_from_a_container_of_the_ordinary_engine_no_agent_hears_a_byte(
    ours: Attackers, ordinary: OrdinaryEngine
) -> None:
    """Another person's container on the ordinary engine is a stranger like any."""
    with (
        ours.sleeping_agent() as (address, agent),
        ears(["nsenter", f"--target={agent}", "--net"], [(address, 7792)]) as it,
    ):
        container = ordinary.docker("run", "-d", IMAGE, "busybox", "sleep", "600").strip()
        pid = inspected(ordinary, container)[2]
        knock(["nsenter", f"--target={pid}", "--net"], "stranger", [(address, 7792)])
        assert it.heard == []
        ours.knock("agent", [(address, 7792)])
        hears(it, "agent", [(address, 7792)])
        ordinary.docker("rm", "-f", container)
