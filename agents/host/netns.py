"""The network namespace of the engine and the pair of interfaces that joins it to the host."""

from __future__ import annotations

import json
import os
from pathlib import Path

from agents.host.addresses import Addresses, choose, is_free, look
from agents.host.instance import Instance
from agents.host.rules import INNER
from agents.host.shell import attempt, run

NOTE = "network.json"


def path(instance: Instance) -> Path:
    """The file that names the namespace."""
    return Path("/run/netns") / instance.netns


def is_up(instance: Instance) -> bool:
    """Whether namespace and interface are there."""
    return os.path.exists(path(instance)) and os.path.exists(f"/sys/class/net/{instance.veth}")


def noted(instance: Instance) -> Addresses | None:
    """The addresses chosen last time, or None."""
    try:
        return Addresses.from_json(json.loads((instance.host_dir / NOTE).read_text()))
    except (OSError, ValueError, KeyError):
        return None


def ensure(instance: Instance) -> Addresses:
    """Namespace, interfaces and addresses as they must be; those of a running namespace are kept."""
    addresses = noted(instance)
    network = look(without=instance.veth)
    if addresses is None or not is_up(instance):
        down(instance)
        if addresses is None or not is_free(addresses, network.routes):
            addresses = choose(network.routes)
        _note(instance, addresses)
        try:
            _make(instance, addresses)
        except BaseException:
            down(instance)
            raise
    _set_mtu(instance, network.mtu)
    return addresses


def _note(instance: Instance, addresses: Addresses) -> None:
    file = instance.host_dir / NOTE
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(addresses.to_json()))
    draft.replace(file)


def _make(instance: Instance, addresses: Addresses) -> None:
    name, veth = instance.netns, instance.veth
    run(["ip", "netns", "add", name])
    inside = ["nsenter", f"--net={path(instance)}"]
    for scope in ("all", "default"):  # before the interface exists: no link-local address ever appears
        _sysctl(inside, f"net/ipv6/conf/{scope}/disable_ipv6", "1")
    run(["ip", "link", "add", veth, "type", "veth", "peer", "name", INNER, "netns", name])
    _sysctl([], f"net/ipv6/conf/{veth}/disable_ipv6", "1")
    run(["ip", "addr", "add", f"{addresses.host}/30", "dev", veth])
    run(["ip", "link", "set", veth, "up"])
    run(["ip", "-n", name, "link", "set", "lo", "up"])
    run(["ip", "-n", name, "addr", "add", f"{addresses.inner}/30", "dev", INNER])
    run(["ip", "-n", name, "link", "set", INNER, "up"])
    run(["ip", "-n", name, "route", "add", "default", "via", str(addresses.host)])


def _set_mtu(instance: Instance, mtu: int) -> None:
    """Too big packets would have to be reported back through every firewall on the way."""
    run(["ip", "link", "set", instance.veth, "mtu", str(mtu)])
    run(["ip", "-n", instance.netns, "link", "set", INNER, "mtu", str(mtu)])


def _sysctl(inside: list[str], key: str, value: str) -> None:
    """Where the kernel has no IPv6 the key is missing, and nothing is to be done."""
    script = '[ ! -e "/proc/sys/$1" ] || printf "%s" "$2" > "/proc/sys/$1"'
    run([*inside, "/bin/sh", "-c", script, "sh", key, value])


def down(instance: Instance) -> None:
    """Remove interface and namespace; idempotent."""
    attempt(["ip", "link", "del", instance.veth])
    if os.path.lexists(path(instance)):
        attempt(["ip", "netns", "del", instance.netns])
