"""Bridges that an engine left behind: killed after it made one, and before it wrote down the network it was for."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from typing import Any, Final

from agents.host import netns
from agents.host.instance import Instance
from agents.host.shell import attempt, run

NAME: Final = re.compile(r"br-[0-9a-f]{12}")  # what the engine calls them; `docker0` it makes anew itself
FAMILIES: Final = ("iptables", "ip6tables")


def present(instance: Instance) -> frozenset[str]:
    """The engine's bridges in its namespace. While no dockerd runs there come no more of them."""
    shown = json.loads(run(["ip", "-j", "-n", instance.netns, "link", "show", "type", "bridge"]) or "[]")
    return frozenset(link["ifname"] for link in shown if NAME.fullmatch(link.get("ifname", "")))


def of_networks(networks: Iterable[Any]) -> frozenset[str]:
    """The bridges of the networks that the engine knows (`GET /networks`)."""
    return frozenset(f"br-{network['Id'][:12]}" for network in networks)


def remove(instance: Instance, names: Iterable[str]) -> None:
    """Take bridges away, and every rule of the namespace that names one of them."""
    gone = frozenset(names)
    if not gone:
        return
    inside = ["nsenter", f"--net={netns.path(instance)}"]
    for family in FAMILIES:
        for rule in rules_of(attempt([*inside, f"{family}-save"]).stdout, gone):
            attempt([*inside, family, "--wait", "5", *rule])
    for name in sorted(gone):
        attempt(["ip", "-n", instance.netns, "link", "del", name])


def rules_of(saved: str, names: frozenset[str]) -> list[list[str]]:
    """The commands that delete what an `iptables-save` shows about interfaces called `names`."""
    found, table = [], ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            words = shlex.split(line)
            if names & set(words):
                found.append(["-t", table, "-D", *words[1:]])
    return found
