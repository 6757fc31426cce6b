"""Which private addresses our network namespace uses: candidates that no route of the host touches."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agents.host.shell import HostError, run

Network = ipaddress.IPv4Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addresses:
    """`link` is the /30 between host and namespace, `bridge` the engine's own bridge, `pool` the agents' networks."""

    link: Network
    bridge: Network
    pool: Network

    @property
    def host(self) -> ipaddress.IPv4Address:
        return self.link[1]

    @property
    def inner(self) -> ipaddress.IPv4Address:
        return self.link[2]

    @property
    def all(self) -> tuple[Network, Network, Network]:
        return (self.link, self.bridge, self.pool)

    def to_json(self) -> dict[str, str]:
        return {"link": str(self.link), "bridge": str(self.bridge), "pool": str(self.pool)}

    @classmethod
    def from_json(cls, value: dict[str, str]) -> Addresses:
        return cls(link=Network(value["link"]), bridge=Network(value["bridge"]), pool=Network(value["pool"]))


def candidates() -> Iterable[Addresses]:
    """In order of liking; each needs three neighbouring /16 of 10/8, or the corner of 172.16/12 or of 198.18/15."""
    for second in (*range(213, 252, 3), *range(117, 210, 3), *range(12, 114, 3)):
        yield Addresses(
            link=Network(f"10.{second}.0.0/30"),
            bridge=Network(f"10.{second + 1}.0.0/24"),
            pool=Network(f"10.{second + 2}.0.0/16"),
        )
    for second in (28, 24, 20):
        yield Addresses(
            link=Network(f"172.{second}.0.0/30"),
            bridge=Network(f"172.{second + 1}.0.0/24"),
            pool=Network(f"172.{second + 2}.0.0/16"),
        )
    yield Addresses(link=Network("198.18.0.0/30"), bridge=Network("198.18.1.0/24"), pool=Network("198.19.0.0/16"))


def choose(taken: Iterable[Network]) -> Addresses:
    """The first candidate that overlaps none of `taken`. Raises HostError if there is none."""
    used = [network for network in taken if network.prefixlen > 0]
    for candidate in candidates():
        if is_free(candidate, used):
            return candidate
    raise HostError(
        "Every address range that the agents' networks could use is routed by this host already.",
        remedy="Look at `ip -4 route` for broad private routes; one /30, one /24 and one /16 must be free.",
    )


def is_free(addresses: Addresses, taken: Iterable[Network]) -> bool:
    """Whether `addresses` overlaps no network of `taken` (a default route overlaps nothing)."""
    return not any(ours.overlaps(other) for ours in addresses.all for other in taken if other.prefixlen > 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostNetwork:
    """What the host's own network looks like now.

    `uplinks` are the interfaces of its default routes; `forwards` is whether it forwards for everybody anyway.
    """

    addresses: tuple[ipaddress.IPv4Address, ...]
    routes: tuple[Network, ...]
    uplinks: tuple[str, ...]
    mtu: int
    forwards: bool = True


def look(*, without: str) -> HostNetwork:
    """The host's network as the kernel knows it, leaving out our own interface `without`."""
    links = json.loads(run(["ip", "-j", "-4", "addr", "show"]) or "[]")
    routes = json.loads(run(["ip", "-j", "-4", "route", "show", "table", "all"]) or "[]")
    forwards = Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    return dataclasses.replace(read(links, routes, without=without), forwards=forwards)


def read(links: list[dict[str, Any]], routes: list[dict[str, Any]], *, without: str) -> HostNetwork:
    """`look` on what `ip -j` printed."""
    addresses, networks, mtus = [], [], {}
    for link in links:
        mtus[link.get("ifname", "")] = int(link.get("mtu", 1500))
        for entry in link.get("addr_info", []) if link.get("ifname") != without else []:
            addresses.append(ipaddress.IPv4Address(entry["local"]))
            networks.append(ipaddress.IPv4Network(f"{entry['local']}/{entry['prefixlen']}", strict=False))
    uplinks = set()
    for route in routes:
        if route.get("dev") == without or route.get("type") in {"broadcast", "multicast", "anycast"}:
            continue
        if route.get("dst") == "default":
            if route.get("type", "unicast") == "unicast":
                hops = [route, *route.get("nexthops", [])]
                uplinks |= {hop["dev"] for hop in hops if "dev" in hop}
        else:
            networks.append(ipaddress.IPv4Network(route["dst"], strict=False))
    return HostNetwork(
        addresses=tuple(sorted({a for a in addresses if not a.is_loopback})),
        routes=tuple(sorted(set(networks))),
        uplinks=tuple(sorted(uplinks)),
        mtu=min((mtus.get(name, 1500) for name in uplinks), default=1500),
    )
