"""Applies the rules of `rules.py`, checks that they stand, removes them; never touches a rule of anybody else."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from agents.host import resolvers, rules
from agents.host.addresses import Addresses, look
from agents.host.instance import Instance
from agents.host.rules import Chain, Family
from agents.host.shell import HostError, attempt, run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One place where rules stand: the host (`netns` is None) or the agents' namespace."""

    netns: Path | None
    chains: tuple[Chain, ...]

    def inside(self, argv: list[str]) -> list[str]:
        return argv if self.netns is None else ["nsenter", f"--net={self.netns}", *argv]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What the kernel showed for our chains and routes right after they were applied."""

    host: tuple[str, ...]
    inner: tuple[str, ...]
    routes: frozenset[str]


class Firewall:
    """The rules of one instance. One object remembers what it applied and compares with that."""

    def __init__(self, instance: Instance, *, addresses: Addresses) -> None:
        self._instance = instance
        self._addresses = addresses
        self._netns = Path("/run/netns") / instance.netns
        self._applied: tuple[tuple[Side, ...], frozenset[str]] | None = None
        self._seen: Seen | None = None

    def wanted(self) -> tuple[tuple[Side, ...], frozenset[str]]:
        """Both sides and the blocked routes, for the host's network as it is now."""
        network = look(without=self._instance.veth)
        name = self._instance.name
        ipv6 = Path("/proc/net/if_inet6").exists()
        host = rules.host_side(
            name=name, veth=self._instance.veth, addresses=self._addresses, network=network, ipv6=ipv6
        )
        forwarder = bool(resolvers.noted_upstreams(self._instance))
        inner = rules.inner_side(name=name, addresses=self._addresses, host=network.addresses, forwarder=forwarder)
        sides = (Side(netns=None, chains=host), Side(netns=self._netns, chains=inner))
        return sides, rules.blocked_routes(network, self._addresses)

    def ensure(self) -> str:
        """Apply whatever is missing or has changed; returns what was wrong, or an empty string.

        Raises HostError if the rules do not stand afterwards.
        """
        wanted = self.wanted()
        problem = self._problem(wanted)
        if problem:
            self._apply(*wanted)
            self._applied, self._seen = wanted, self._look(*wanted)
            if self._look(*wanted) != self._seen or not _complete(wanted[0], self._seen):
                raise HostError(
                    "The firewall rules did not stay as they were set.",
                    remedy="Another program rewrites the rules; see iptables-save and its service.",
                )
        return problem

    def _problem(self, wanted: tuple[tuple[Side, ...], frozenset[str]]) -> str:
        if self._applied is None or self._seen is None:
            return "not set yet"
        if self._applied != wanted:
            return "the host's network changed"
        seen = self._look(*wanted)
        if seen.host != self._seen.host:
            return "rules of the host were changed or removed"
        if seen.inner != self._seen.inner:
            return "rules of the namespace were changed or removed"
        if seen.routes != self._seen.routes:
            return "routes of the namespace were changed or removed"
        if not all(file.read_text().strip() == "1" for file in self._forwarding()):
            return "the host stopped forwarding"
        return ""

    def _forwarding(self) -> list[Path]:
        """Only our interface and the uplinks forward: the host as a whole stays what it was."""
        names = (self._instance.veth, *look(without=self._instance.veth).uplinks)
        return [Path("/proc/sys/net/ipv4/conf") / name / "forwarding" for name in names]

    def _apply(self, sides: tuple[Side, ...], routes: frozenset[str]) -> None:
        for side in sides:
            for family in ("iptables", "ip6tables"):
                mine = [chain for chain in side.chains if chain.family == family]
                if mine:
                    run(side.inside([f"{family}-restore", "--wait", "5", "--noflush"]), text=rules.restore_text(mine))
            for chain in side.chains:
                _ensure_jump(side, chain)
        for file in self._forwarding():  # after the rules: what must not pass never does
            file.write_text("1\n")
        for route in routes ^ self._routes():
            run(["ip", "-n", self._instance.netns, "route", "replace" if route in routes else "del", "prohibit", route])

    def _look(self, sides: tuple[Side, ...], routes: frozenset[str]) -> Seen:
        host, inner = (_saved(side) for side in sides)
        return Seen(host=host, inner=inner, routes=self._routes())

    def _routes(self) -> frozenset[str]:
        shown = json.loads(run(["ip", "-j", "-n", self._instance.netns, "route", "show", "type", "prohibit"]) or "[]")
        return frozenset(route["dst"] for route in shown)

    def remove(self) -> None:
        """Take our chains off both sides; idempotent, the namespace may be gone already."""
        for side in self.wanted()[0]:
            if side.netns is None or os.path.lexists(side.netns):
                for chain in side.chains:
                    _remove_chain(side, chain)


def _tool(side: Side, chain: Chain, *words: str) -> list[str]:
    return side.inside([chain.family, "--wait", "5", "-t", chain.table, *words])


def _ensure_jump(side: Side, chain: Chain) -> None:
    if attempt(_tool(side, chain, "-C", chain.parent, *chain.jump.split())).returncode:
        run(_tool(side, chain, "-I", chain.parent, "1", *chain.jump.split()))


def _remove_chain(side: Side, chain: Chain) -> None:
    while attempt(_tool(side, chain, "-D", chain.parent, *chain.jump.split())).returncode == 0:
        continue
    attempt(_tool(side, chain, "-F", chain.name))
    attempt(_tool(side, chain, "-X", chain.name))


def _saved(side: Side) -> tuple[str, ...]:
    found: list[str] = []
    families: tuple[Family, ...] = ("iptables", "ip6tables")
    for family in families:
        mine = [chain for chain in side.chains if chain.family == family]
        if mine:
            names = frozenset(chain.name for chain in mine)
            text = run(side.inside([f"{family}-save"]))
            found += [f"{family} {line}" for line in rules.saved_lines(text, names)]
    return tuple(found)


def _complete(sides: tuple[Side, ...], seen: Seen) -> bool:
    """Every rule and every jump is there, once."""
    wanted = [sum(len(chain.rules) + 1 for chain in side.chains) for side in sides]
    return wanted == [len(seen.host), len(seen.inner)]
