"""The firewall as data: what must stand on the host's side and in the agents' namespace.

What *forbids* stands in the table `mangle`: it is passed before `filter`, so no other program's ACCEPT, wherever it is
inserted, comes before it. What only *opens* the way for our interface stands in `filter`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable
from typing import Literal

from agents.host.addresses import Addresses, HostNetwork

Family = Literal["iptables", "ip6tables"]

INNER = "eth0"  # our end of the veth pair in the namespace
LINK_LOCAL = "169.254.0.0/16"
MULTICAST = "224.0.0.0/4"
RESERVED = "240.0.0.0/4"  # 255.255.255.255 among it
DNS = 53
QUESTIONS = 200  # per second and container
# Of one agent. All agents share one table of the kernel, and with the host another; each has 65536 entries or more.
CONNECTIONS = 8192
ANSWERS = "-m conntrack --ctstate RELATED,ESTABLISHED"
PER_AGENT = f"-m connlimit --connlimit-above {CONNECTIONS} --connlimit-mask 32 --connlimit-saddr"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
    """A chain of ours: where it hangs, and its rules in the form that iptables-restore reads."""

    family: Family
    table: str
    parent: str
    name: str
    rules: tuple[str, ...]

    @property
    def jump(self) -> str:
        return f"-j {self.name}"


def host_side(*, name: str, veth: str, addresses: Addresses, network: HostNetwork, ipv6: bool) -> tuple[Chain, ...]:
    """The chains in the host's own namespace."""
    inner = f"{addresses.inner}/32"
    forbid = [
        f"-o {veth} {ANSWERS} -j RETURN",
        f"-o {veth} -j DROP",  # nobody outside starts to talk to an agent
        f"-i {veth} ! -s {inner} -j DROP",  # no forged source
        *(f"-i {veth} -d {place} -j DROP" for place in (LINK_LOCAL, MULTICAST, RESERVED)),
        *(f"-i {veth} -o {uplink} -j RETURN" for uplink in network.uplinks),
        f"-i {veth} -j DROP",  # no other bridge, tap or VPN of the host
    ]
    if not network.forwards:  # we make the uplinks forward; that must make a router of this host for nobody else
        # Answers pass: a connection that began from outside was never forwarded, and a second instance has its own.
        forbid += [f"-i {uplink} -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP" for uplink in network.uplinks]
    to_agents = [f"-o {veth} -p icmp -m conntrack --ctstate RELATED -j RETURN", f"-o {veth} -j DROP"]
    chains = [
        _chain("iptables", "mangle", "INPUT", name, [f"-i {veth} -j DROP"]),
        _chain("iptables", "mangle", "FORWARD", name, forbid),
        _chain("iptables", "mangle", "OUTPUT", name, to_agents),
        _chain("iptables", "filter", "FORWARD", name, [f"-i {veth} -j ACCEPT", f"-o {veth} {ANSWERS} -j ACCEPT"]),
        _chain("iptables", "nat", "POSTROUTING", name, [f"-s {addresses.link} ! -o {veth} -j MASQUERADE"]),
    ]
    if ipv6:
        ways = {"INPUT": ["-i"], "FORWARD": ["-i", "-o"], "OUTPUT": ["-o"]}
        for parent, sides in ways.items():
            chains.append(_chain("ip6tables", "mangle", parent, name, [f"{side} {veth} -j DROP" for side in sides]))
    return tuple(chains)


def inner_side(
    *, name: str, addresses: Addresses, host: Iterable[ipaddress.IPv4Address], forwarder: bool = False
) -> tuple[Chain, ...]:
    """The chains in the agents' namespace; they hold even while the host's own rules are being reloaded.

    With `forwarder`, agents and builds may ask for names at the inner end of the link: one address, one port.
    """
    places = [f"{address}/32" for address in host] + [str(addresses.link), LINK_LOCAL, MULTICAST, RESERVED]
    forward = [
        f"-i {INNER} {ANSWERS} -j RETURN",
        f"-i {INNER} -j DROP",
        *(f"-o {INNER} -d {place} -j DROP" for place in places),
        f"-o {INNER} -m conntrack --ctstate NEW {PER_AGENT} -j DROP",
        f"-o {INNER} -j RETURN",
        # What is left stays inside: within one bridge it may pass, from bridge to bridge it may not.
        "-m physdev --physdev-is-bridged -j RETURN",
        "-j DROP",
    ]
    own = ["-i lo -j RETURN", f"-i {INNER} {ANSWERS} -j RETURN"]
    if forwarder:
        own += _questions(name, addresses)
    own.append("-j DROP")
    return (
        _chain("iptables", "mangle", "FORWARD", name, forward),
        _chain("iptables", "mangle", "INPUT", name, own),
    )


def _questions(name: str, addresses: Addresses) -> list[str]:
    """From bridges only, under addresses of bridges only; one client's flood leaves room for the others."""
    found = []
    for protocol in ("udp", "tcp"):
        asked = f"! -i {INNER} -d {addresses.inner}/32 -p {protocol} --dport {DNS}"
        if protocol == "udp":
            table = f"--hashlimit-mode srcip --hashlimit-name JW-{name}"
            rate = f"--hashlimit-above {QUESTIONS}/sec --hashlimit-burst {2 * QUESTIONS}"
            found.append(f"{asked} -m hashlimit {rate} {table} -j DROP")
        found += [f"{asked} -s {source} -j RETURN" for source in (addresses.bridge, addresses.pool)]
    return found


def blocked_routes(network: HostNetwork, addresses: Addresses) -> frozenset[str]:
    """Destinations for which the namespace has a `prohibit` route: a try fails at once, and without any firewall."""
    host = {str(address) for address in network.addresses if address not in addresses.link}
    return frozenset({LINK_LOCAL, *host})


def _chain(family: Family, table: str, parent: str, name: str, rules: Iterable[str]) -> Chain:
    return Chain(family=family, table=table, parent=parent, name=f"JW-{name}-{parent[:4]}", rules=tuple(rules))


def restore_text(chains: Iterable[Chain]) -> str:
    """Input of `iptables-restore --noflush`: it empties and fills our chains in one step and touches no other."""
    lines: list[str] = []
    by_table: dict[str, list[Chain]] = {}
    for chain in chains:
        by_table.setdefault(chain.table, []).append(chain)
    for table, members in by_table.items():
        lines.append(f"*{table}")
        lines += [f":{chain.name} - [0:0]" for chain in members]
        lines += [f"-A {chain.name} {rule}" for chain in members for rule in chain.rules]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n" if lines else ""


def saved_lines(text: str, names: frozenset[str]) -> tuple[str, ...]:
    """The lines of an `iptables-save` that belong to our chains `names`, each with its table, in order."""
    found, table = [], ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A ") and names.intersection(line.split()):
            found.append(f"{table} {line}")
    return tuple(found)
