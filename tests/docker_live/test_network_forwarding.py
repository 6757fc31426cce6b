"""The host becomes no router: what passed between its networks before our start passes after it, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.host import rules
from agents.host.addresses import HostNetwork
from agents.host.netns import noted
from tests.support.fake_host import HOST_LAN, HOST_UP, INSTANCE, LAN, OUTSIDE, FakeHost, fake_host
from tests.support.knocking import ears, hears, knock
from tests.support.machine import run

pytestmark = pytest.mark.live
TO_LAN, TO_OUTSIDE = [(LAN, 7777)], [(OUTSIDE, 7777)]


@pytest.fixture
def quiet() -> Iterator[FakeHost]:
    """A host that does not forward."""
    with fake_host() as host:
        yield host


@pytest.fixture
def router() -> Iterator[FakeHost]:
    """A host that forwards for everybody already."""
    with fake_host(forwards=True) as host:
        yield host


def test_a_host_that_did_not_forward_forwards_for_agents_only(quiet: FakeHost) -> None:
    with ears(quiet.outside.inside, TO_OUTSIDE) as outside, ears(quiet.lan.inside, TO_LAN) as lan:
        for moment in ("before", "after"):
            if moment == "after":
                quiet.do("network")
            knock(quiet.lan.inside, "lan", TO_OUTSIDE)
            knock(quiet.outside.inside, "outside", TO_LAN)
            assert [*outside.heard, *lan.heard] == [], moment
        knock(quiet.engine_space, "agents", TO_OUTSIDE)
        hears(outside, "agents", TO_OUTSIDE)
        knock(quiet.inside, "host", TO_LAN)
        hears(lan, "host", TO_LAN)
    assert quiet.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"


def test_a_second_service_on_the_host_does_not_cut_off_the_first(quiet: FakeHost) -> None:
    quiet.do("network")
    found = noted(INSTANCE)
    assert found is not None
    network = HostNetwork(addresses=(), routes=(), uplinks=("up0",), mtu=1500, forwards=False)
    chains = rules.host_side(name="second", veth="second-host", addresses=found, network=network, ipv6=False)
    run(*quiet.inside, "iptables-restore", "--noflush", text=rules.restore_text(chains))
    for chain in chains:
        quiet.run("iptables", "-w", "-t", chain.table, "-I", chain.parent, "1", "-j", chain.name)
    with ears(quiet.outside.inside, TO_OUTSIDE) as outside, ears(quiet.lan.inside, TO_LAN) as lan:
        knock(quiet.engine_space, "agents", TO_OUTSIDE)
        hears(outside, "agents", TO_OUTSIDE)
        knock(quiet.outside.inside, "outside", TO_LAN)
        assert lan.heard == []


def test_a_host_that_forwarded_forwards_the_same_as_before(router: FakeHost) -> None:
    for moment in ("before", "after", "when it is gone"):
        if moment == "after":
            router.do("network")
        elif moment == "when it is gone":
            router.do("stop")
        with ears(router.outside.inside, TO_OUTSIDE) as outside, ears(router.lan.inside, TO_LAN) as lan:
            knock(router.lan.inside, "lan", TO_OUTSIDE)
            knock(router.outside.inside, "outside", TO_LAN)
            hears(outside, "lan", TO_OUTSIDE)
            hears(lan, "outside", TO_LAN)
    assert "JW-" not in router.run("iptables-save") + router.run("ip6tables-save")


def test_machines_around_a_host_that_forwards_do_not_reach_agents(router: FakeHost) -> None:
    """Not even while the namespace's own rules are gone."""
    router.do("network")
    found = noted(INSTANCE)
    assert found is not None
    places = [(str(found.inner), 7777), (str(found.inner), 53)]
    run(*router.engine_space, "iptables", "-w", "-t", "mangle", "-F")
    with ears(router.engine_space, places) as listener, ears(router.outside.inside, TO_OUTSIDE) as outside:
        knock(router.lan.inside, "lan", [*places, *TO_OUTSIDE])
        knock(router.outside.inside, "outside", places)
        hears(outside, "lan", TO_OUTSIDE)
        assert listener.heard == []
        router.run("iptables", "-w", "-t", "mangle", "-F")
        router.run("iptables", "-w", "-t", "filter", "-F")
        knock(router.lan.inside, "lan", places)
        hears(listener, "lan", places)


def test_a_forged_source_does_not_leave_the_host(quiet: FakeHost) -> None:
    """Root in the namespace sends under an address that is not its own."""
    quiet.do("network")
    run(*quiet.engine_space, "ip", "addr", "add", "192.0.2.99/32", "dev", "lo")
    run(*quiet.engine_space, "iptables", "-w", "-t", "nat", "-F")
    send = "import socket,sys; s=socket.socket(2,2); s.bind(('192.0.2.99',0)); s.sendto(b'forged',(sys.argv[1],7777))"
    quiet.run("ip", "route", "add", "192.0.2.99/32", "dev", INSTANCE.veth)  # past the kernel's own look at sources
    with ears(quiet.outside.inside, TO_OUTSIDE) as outside:
        run(*quiet.engine_space, "/usr/bin/python3", "-c", send, OUTSIDE)
        knock(quiet.engine_space, "agents", TO_OUTSIDE)
        hears(outside, "agents", TO_OUTSIDE)
        assert "forged" not in {one.said for one in outside.heard}
        quiet.run("iptables", "-w", "-t", "mangle", "-F")
        run(*quiet.engine_space, "/usr/bin/python3", "-c", send, OUTSIDE)
        knock(quiet.engine_space, "later", TO_OUTSIDE)
        hears(outside, "later", TO_OUTSIDE)
        assert "forged" in {one.said for one in outside.heard}


def test_the_hosts_own_addresses_stay_reachable_for_its_networks(quiet: FakeHost) -> None:
    """What forbids is about agents: the host's services hear its networks as before."""
    quiet.do("network")
    places = [(HOST_LAN, 7777), (HOST_UP, 7777)]
    with ears(quiet.inside, places) as here:
        knock(quiet.lan.inside, "lan", places[:1])
        knock(quiet.outside.inside, "outside", places[1:])
        hears(here, "lan", places[:1])
        hears(here, "outside", places[1:])
