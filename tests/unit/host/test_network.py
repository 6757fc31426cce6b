"""Addresses that avoid the host's routes, and the rules that are made from what the host looks like."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from agents.host import rules
from agents.host.addresses import Addresses, HostNetwork, candidates, choose, read
from agents.host.engine_config import dockerd_config
from agents.host.instance import Instance
from agents.host.resolvers import reachable_resolvers
from agents.host.shell import HostError

Network = ipaddress.IPv4Network
FIRST = next(iter(candidates()))
HOST = HostNetwork(
    addresses=(ipaddress.IPv4Address("192.0.2.2"),),
    routes=(Network("192.0.2.0/24"),),
    uplinks=("eth0", "wlan0"),
    mtu=1400,
)


def test_first_candidate_on_an_empty_host() -> None:
    assert choose([]) == FIRST


@pytest.mark.parametrize("part", ["link", "bridge", "pool"])
def test_candidate_is_left_out_if_any_part_is_routed(part: str) -> None:
    taken = getattr(FIRST, part)
    chosen = choose([taken])
    assert not any(ours.overlaps(taken) for ours in chosen.all)


def test_a_vpn_that_routes_10_8_leaves_172() -> None:
    assert choose([Network("10.0.0.0/8")]).pool.subnet_of(Network("172.16.0.0/12"))


def test_a_default_route_is_no_reason() -> None:
    assert choose([Network("0.0.0.0/0")]) == FIRST


def test_no_free_range_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(HostError) as caught:
        choose([Network("10.0.0.0/8"), Network("172.16.0.0/12"), Network("198.18.0.0/15")])
    assert "ip -4 route" in caught.value.remedy


def test_candidates_never_overlap_themselves() -> None:
    for candidate in candidates():
        assert not candidate.link.overlaps(candidate.bridge)
        assert not candidate.bridge.overlaps(candidate.pool)
        assert not candidate.link.overlaps(candidate.pool)


def test_reading_what_ip_prints() -> None:
    links: list[dict[str, Any]] = [
        {"ifname": "lo", "mtu": 65536, "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "mtu": 1400, "addr_info": [{"local": "192.0.2.2", "prefixlen": 24}]},
        {"ifname": "jackin-host", "mtu": 1500, "addr_info": [{"local": "10.213.0.1", "prefixlen": 30}]},
    ]
    routes = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "192.0.2.0/24", "dev": "eth0"},
        {"dst": "10.8.0.0/16", "dev": "tun0"},
        {"dst": "10.213.0.0/30", "dev": "jackin-host"},
        {"type": "broadcast", "dst": "192.0.2.255", "dev": "eth0"},
    ]
    seen = read(links, routes, without="jackin-host")
    assert seen.addresses == (ipaddress.IPv4Address("192.0.2.2"),)
    assert Network("10.8.0.0/16") in seen.routes
    assert Network("10.213.0.0/30") not in seen.routes
    assert (seen.uplinks, seen.mtu) == (("eth0",), 1400)


def _host(**changes: Any) -> tuple[rules.Chain, ...]:
    network = HostNetwork(**({f: getattr(HOST, f) for f in ("addresses", "routes", "uplinks", "mtu")} | changes))
    return rules.host_side(name="jackin", veth="jackin-host", addresses=FIRST, network=network, ipv6=True)


def _rules(chains: tuple[rules.Chain, ...], table: str, parent: str, family: str = "iptables") -> tuple[str, ...]:
    (found,) = [c for c in chains if (c.table, c.parent, c.family) == (table, parent, family)]
    return found.rules


def test_agents_reach_no_address_of_the_host() -> None:
    assert _rules(_host(), "mangle", "INPUT") == ("-i jackin-host -j DROP",)


def test_agents_leave_through_uplinks_only_and_link_local_never() -> None:
    forward = _rules(_host(), "mangle", "FORWARD")
    assert forward[-1] == "-i jackin-host -j DROP"
    ways = [rule for rule in forward if rule.startswith("-i jackin-host") and rule.endswith("RETURN")]
    assert ways == ["-i jackin-host -o eth0 -j RETURN", "-i jackin-host -o wlan0 -j RETURN"]
    assert forward.index("-i jackin-host -d 169.254.0.0/16 -j DROP") < forward.index(ways[0])


def test_without_an_uplink_nothing_leaves() -> None:
    forward = _rules(_host(uplinks=()), "mangle", "FORWARD")
    assert not [rule for rule in forward if rule.startswith("-i") and rule.endswith("RETURN")]


def test_a_host_that_did_not_forward_does_not_become_a_router() -> None:
    rule = "-i eth0 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP"
    assert rule in _rules(_host(forwards=False), "mangle", "FORWARD")
    assert rule not in _rules(_host(forwards=True), "mangle", "FORWARD")


def test_host_users_do_not_reach_agents() -> None:
    assert _rules(_host(), "mangle", "OUTPUT")[-1] == "-o jackin-host -j DROP"


def test_ipv6_is_closed_in_every_direction() -> None:
    for parent in ("INPUT", "FORWARD", "OUTPUT"):
        assert all(rule.endswith("DROP") for rule in _rules(_host(), "mangle", parent, "ip6tables"))


def test_inner_side_keeps_bridges_apart_and_knows_the_hosts_addresses() -> None:
    inner = rules.inner_side(name="jackin", addresses=FIRST, host=HOST.addresses)
    forward, own = inner[0].rules, inner[1].rules
    assert forward[-1] == "-j DROP"
    assert forward.index("-o eth0 -d 192.0.2.2/32 -j DROP") < forward.index("-o eth0 -j RETURN")
    assert [rule for rule in forward[: forward.index("-o eth0 -j RETURN")] if "connlimit" in rule]
    assert own[-1] == "-j DROP"
    assert not [rule for rule in own if "dport" in rule]


def test_restore_text_declares_only_our_chains() -> None:
    text = rules.restore_text(_host())
    declared = [line for line in text.splitlines() if line.startswith(":")]
    assert declared
    assert all(line.startswith(":JW-jackin-") for line in declared)
    assert all(line.startswith("-A JW-jackin-") for line in text.splitlines() if line.startswith("-A"))
    assert text.count("COMMIT") == text.count("*")


def test_chain_names_fit_the_kernel() -> None:
    chains = rules.host_side(name="abcdefgh", veth="abcdefgh-host", addresses=FIRST, network=HOST, ipv6=True)
    assert all(len(chain.name) <= 28 for chain in chains)
    assert len(Instance(name="abcdefgh").veth) <= 15


def test_saved_lines_leave_others_rules_out() -> None:
    saved = (
        "*filter\n:JW-x-FORW - [0:0]\n-A FORWARD -j JW-x-FORW\n-A FORWARD -j JW-xy-FORW\n-A JW-x-FORW -j DROP\nCOMMIT\n"
    )
    found = rules.saved_lines(saved, frozenset({"JW-x-FORW"}))
    assert found == ("filter -A FORWARD -j JW-x-FORW", "filter -A JW-x-FORW -j DROP")


@pytest.mark.parametrize(
    ("text", "reachable"),
    [
        ("nameserver 127.0.0.53\n", ()),
        ("nameserver 192.0.2.2\n", ()),  # the host itself
        ("nameserver ::1\nnameserver 198.51.100.1\n", ("198.51.100.1",)),
        ("nameserver 198.51.100.1 # comment\nnameserver 127.0.0.1\n", ("198.51.100.1",)),
        ("", ()),
    ],
)
def test_reachable_resolvers(text: str, reachable: tuple[str, ...]) -> None:
    assert reachable_resolvers(text, HOST.addresses) == reachable


def test_engine_configuration_holds_what_must_be() -> None:
    addresses = Addresses(link=FIRST.link, bridge=FIRST.bridge, pool=FIRST.pool)
    config = dockerd_config(Instance(), addresses=addresses, mtu=1400, dns=())
    assert config["userns-remap"] == "jackin-remap"
    assert config["live-restore"] is True
    assert config["group"] == "jackin-run"
    assert config["hosts"] == ["unix:///var/lib/jackin-web/run-root/docker.sock"]
    assert config["log-driver"] == "local"
    assert "dns" not in config
