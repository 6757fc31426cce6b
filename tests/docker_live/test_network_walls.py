"""From an agent and from a step of a build, no listener of the host, beside it or behind it hears a byte.

The host is one of the test's own, in namespaces, with our real engine on it; each listener then hears
somebody who may.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.docker_live.network_kit import (
    ATTACKERS,
    Attacker,
    Net,
    Places,
    bridge_of_the_host,
    engine_on_a_fake_host,
)
from tests.support.fake_host import HOST_LINK_LOCAL, HOST_UP6, LAN, METADATA, OUTSIDE, FakeHost
from tests.support.knocking import Ears, ears, hears, knock
from tests.support.machine import run
from tests.support.service import wait_for

pytestmark = pytest.mark.live
PORTS = (53, 7777)
EVERYWHERE = [(address, port) for address in ("0.0.0.0", "::") for port in PORTS]
BEYOND = [(OUTSIDE, 7777)]  # what an agent may reach: it shows that its knocks leave
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with engine_on_a_fake_host() as found:
        yield found


@pytest.fixture
def outside(net: Net) -> Iterator[Ears]:
    with ears(net.host.outside.inside, BEYOND) as found:
        yield found


@pytest.fixture
def mended(net: Net) -> Iterator[Net]:
    """For tests that take rules away."""
    yield net
    net.host.do("ensure")


def at(*addresses: str) -> list[tuple[str, int]]:
    return [(address, port) for address in addresses for port in PORTS]


def own_addresses(host: FakeHost, *, family: int, device: str = "") -> list[str]:
    """Every address of the host but loopback; with `device`, link-local ones as seen on that interface."""
    links = json.loads(host.run("ip", "-j", f"-{family}", "addr"))
    entries = [(link["ifname"], entry) for link in links for entry in link["addr_info"] if link["ifname"] != "lo"]
    scope = {entry["local"]: f"%{device or name}" for name, entry in entries if entry["local"].startswith("fe80")}
    return [entry["local"] + scope.get(entry["local"], "") for _, entry in entries]


def knock_and_leave(net: Net, attacker: Attacker, places: Places, outside: Ears) -> None:
    """The attacker knocks, on a machine of the internet too, which hears it."""
    net.knock(attacker, [*places, *BEYOND])
    hears(outside, attacker, BEYOND)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_no_address_of_the_host_hears_a_byte(net: Net, outside: Ears, attacker: Attacker) -> None:
    with ears(net.host.inside, EVERYWHERE) as listener:
        places = at(*own_addresses(net.host, family=4))
        places6 = own_addresses(net.host, family=6, device="eth0")
        assert len(places) >= 8
        assert any(place.startswith("fe80") for place in places6)
        knock_and_leave(net, attacker, [*places, *at(*places6)], outside)
        assert listener.heard == []
        mine = [*places, *at(*own_addresses(net.host, family=6))]
        knock(net.host.inside, "host", mine)
        hears(listener, "host", mine)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_no_link_local_address_hears_a_byte(net: Net, outside: Ears, attacker: Attacker) -> None:
    """Neither one of the host itself, nor a cloud's metadata service that the host reaches through its uplink."""
    with ears(net.host.inside, at(HOST_LINK_LOCAL)) as here, ears(net.host.outside.inside, at(METADATA)) as cloud:
        knock_and_leave(net, attacker, at(HOST_LINK_LOCAL, METADATA, "169.254.0.1"), outside)
        assert [*here.heard, *cloud.heard] == []
        knock(net.host.inside, "host", at(HOST_LINK_LOCAL, METADATA))
        hears(here, "host", at(HOST_LINK_LOCAL))
        hears(cloud, "host", at(METADATA))


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_no_other_network_of_the_host_hears_a_byte(net: Net, outside: Ears, attacker: Attacker) -> None:
    with bridge_of_the_host(net.host) as behind, ears(behind.inside, EVERYWHERE[:2]) as vm:
        net.host.do("ensure")  # as the guard does when an interface came
        with ears(net.host.lan.inside, at(LAN)) as lan, ears(net.host.inside, EVERYWHERE[:2]) as here:
            knock_and_leave(net, attacker, at(LAN, "192.0.2.130", "192.0.2.129"), outside)
            assert [*vm.heard, *lan.heard, *here.heard] == []
            knock(net.host.inside, "host", at(LAN, "192.0.2.130", "192.0.2.129"))
            hears(vm, "host", at("192.0.2.130"))
            hears(lan, "host", at(LAN))
            hears(here, "host", at("192.0.2.129"))


def test_a_bridge_that_came_a_moment_ago_hears_nothing_either(net: Net, outside: Ears) -> None:
    """Before the guard looked again: the host's side needs no list of what must not be reached."""
    with (
        bridge_of_the_host(net.host) as behind,
        ears(behind.inside, at("192.0.2.130")) as vm,
        ears(net.host.inside, at("192.0.2.129")) as here,
    ):
        knock_and_leave(net, "agent", at("192.0.2.130", "192.0.2.129"), outside)
        assert [*vm.heard, *here.heard] == []
        knock(net.host.inside, "host", at("192.0.2.130", "192.0.2.129"))
        hears(vm, "host", at("192.0.2.130"))
        hears(here, "host", at("192.0.2.129"))


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_the_agents_namespace_itself_hears_nothing(net: Net, outside: Ears, attacker: Attacker) -> None:
    gateways = [entry["local"] for link in _links(net) for entry in link["addr_info"] if link["ifname"] != "lo"]
    assert len(gateways) >= 3
    with ears(net.host.engine_space, EVERYWHERE[:2]) as listener:
        knock_and_leave(net, attacker, at(*gateways), outside)
        assert listener.heard == []
        knock(net.host.engine_space, "itself", at(*gateways))
        hears(listener, "itself", at(*gateways))


def _links(net: Net) -> list[dict[str, list[dict[str, str]]]]:
    found: list[dict[str, list[dict[str, str]]]] = json.loads(run(*net.host.engine_space, "ip", "-j", "-4", "addr"))
    return found


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_the_hosts_side_holds_alone(mended: Net, outside: Ears, attacker: Attacker) -> None:
    """Somebody empties the rules and routes of the namespace: nothing is heard all the same."""
    mended.empty_the_namespaces_rules(routes=True)
    host = mended.host
    with (
        ears(host.inside, EVERYWHERE) as here,
        ears(host.lan.inside, at(LAN)) as lan,
        ears(host.outside.inside, at(METADATA)) as cloud,
    ):
        places = at(*own_addresses(host, family=4), LAN, METADATA)
        knock_and_leave(mended, attacker, places, outside)
        assert [*here.heard, *lan.heard, *cloud.heard] == []
        knock(host.inside, "host", places)
        hears(here, "host", at(*own_addresses(host, family=4)))
        hears(lan, "host", at(LAN))
        hears(cloud, "host", at(METADATA))


@pytest.mark.parametrize("routes", [False, True], ids=["by its rules", "by its routes"])
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_the_namespaces_side_holds_alone(mended: Net, outside: Ears, attacker: Attacker, routes: bool) -> None:
    """Somebody empties the rules of the host, as a reload of its firewall does for up to 30 s."""
    mended.empty_the_hosts_rules()
    host = mended.host
    if routes:
        run(*host.engine_space, "iptables", "-w", "-t", "mangle", "-F")
    else:
        for route in json.loads(run(*host.engine_space, "ip", "-j", "route", "show", "type", "prohibit")):
            run(*host.engine_space, "ip", "route", "del", "prohibit", route["dst"])
    link = str(mended.addresses.host)  # no route can forbid one's own gateway
    mine = [address for address in own_addresses(host, family=4) if not routes or address != link]
    with ears(host.inside, EVERYWHERE[:2]) as here, ears(host.outside.inside, at(METADATA)) as cloud:
        knock_and_leave(mended, attacker, at(*mine, METADATA), outside)
        assert [*here.heard, *cloud.heard] == []
        knock(host.inside, "host", at(*mine, METADATA))
        hears(here, "host", at(*mine))
        hears(cloud, "host", at(METADATA))


def test_ipv6_is_off_in_the_namespace_and_dropped_by_the_host(mended: Net) -> None:
    host, space = mended.host, mended.host.engine_space
    six = [link for link in json.loads(run(*space, "ip", "-j", "-6", "addr")) if link.get("addr_info")]
    assert six == []
    device = mended.host.instance.veth
    # Somebody turns it on, on both ends: the host's own rules remain.
    for inside, name, address in ((space, "eth0", "fd00:99::2"), (host.inside, device, "fd00:99::1")):
        run(*inside, "sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=0")
        run(*inside, "ip", "addr", "add", f"{address}/64", "dev", name, "nodad")
    run(*space, "ip", "-6", "route", "add", "default", "via", "fd00:99::1")
    try:
        places = at("fd00:99::1", HOST_UP6)
        with ears(host.inside, EVERYWHERE[2:]) as here, ears(space, EVERYWHERE[2:]) as there:
            knock(space, "namespace", places)
            knock(host.inside, "host", at("fd00:99::2"))
            assert [*here.heard, *there.heard] == []
            for parent in ("INPUT", "OUTPUT"):
                host.run("ip6tables", "-w", "-t", "mangle", "-F", parent)
            knock(space, "namespace", places)
            knock(host.inside, "host", at("fd00:99::2"))
            hears(here, "namespace", places)
            hears(there, "host", at("fd00:99::2"))
    finally:
        run(*space, "ip", "addr", "flush", "dev", "eth0", "scope", "global", "to", "fd00:99::/64")
        for inside, name in ((space, "eth0"), (host.inside, device)):
            run(*inside, "sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")


@pytest.mark.parametrize("alone", ["both sides", "the host's side", "the namespace's side"])
def test_from_a_user_of_the_host_no_agent_hears_a_byte(mended: Net, alone: str) -> None:
    """Even where a route of the host leads there: somebody's VPN or a careless administrator made one."""
    host, addresses = mended.host, mended.addresses
    host.run("ip", "route", "replace", str(addresses.pool), "via", str(addresses.inner))
    if alone == "the host's side":
        mended.empty_the_namespaces_rules(routes=False)
    elif alone == "the namespace's side":
        mended.empty_the_hosts_rules()
    try:
        with (
            mended.sleeping_agent() as (address, pid),
            ears(["nsenter", f"--target={pid}", "--net"], at(address)) as it,
            ears(host.engine_space, EVERYWHERE[:2]) as space,
        ):
            own = at(str(addresses.inner), str(addresses.bridge[1]))
            knock([*host.inside, *NOBODY], "user", [*at(address), *own])
            assert [*it.heard, *space.heard] == []
            mended.knock("agent", at(address))  # one of the same network
            hears(it, "agent", at(address))
            knock(host.engine_space, "itself", own)
            hears(space, "itself", own)
    finally:
        host.run("ip", "route", "del", str(addresses.pool))


def test_where_agents_reach_the_resolver_themselves_the_namespace_opens_no_port(net: Net) -> None:
    """The resolver of this host is another machine: there is no forwarder, and no way to one."""
    saved = run(*net.host.engine_space, "iptables-save", "-t", "mangle")
    assert "--dport" not in saved
    assert "-A JW-jknet-INPU -j DROP" in saved
    with ears(net.host.outside.inside, [(OUTSIDE, 53)]) as resolver:
        net.execute("agent", "busybox", "sh", "-c", "busybox timeout 1 busybox nslookup agent.example; true")
        wait_for("the question of the agent", lambda: resolver.heard)
