"""Checks of the doctor inside real containers on our own engine."""

from __future__ import annotations

import os
import re
import socket
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path

from agents.broker import wire
from agents.host import addresses, base_image, guard, resolvers
from agents.host.checks import Check
from agents.host.engine_api import EngineApi
from agents.host.instance import REMAP_BASE, REMAP_COUNT, Instance
from agents.host.shell import HostError
from agents.host.trial import CAPABILITIES, MEMORY, PIDS, Trials

OLDEST_API = (1, 41)
GUARD_SECONDS = 30.0
CONSTRUCT = "projectjackin/construct:trixie"
# Bit numbers of linux/capability.h
BITS = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7,
    "NET_BIND_SERVICE": 10, "AUDIT_WRITE": 29,
}  # fmt: skip


def checks(instance: Instance, api: EngineApi, trials: Trials) -> list[Check]:
    """In the order in which they are shown."""
    looks: dict[str, tuple[Callable[[], str], str]] = {
        "engine": (lambda: engine(api), "Install Docker 20.10 or newer (docker.io or docker-ce)."),
        "remapping": (lambda: remapping(trials), "The engine must run with --userns-remap; restart the service."),
        "capabilities": (lambda: capabilities(trials), "Something adds or removes capabilities of containers."),
        "limits": (lambda: resource_limits(trials), "The kernel or its cgroups do not enforce limits."),
        "firewall": (lambda: firewall(instance), "Another program rewrites the rules; see iptables-save."),
        "host not reachable": (lambda: host_unreachable(instance, trials), "Do not run agents; see iptables-save."),
        "agents apart": (lambda: agents_apart(api, trials), "Do not run agents; see iptables-save in the namespace."),
        "DNS": (
            lambda: dns(trials),
            "Give /etc/resolv.conf a name server that answers; for one on the host itself see the service's dns.log.",
        ),
        "images": (lambda: images(api), "They are made at the next ./scripts/serve."),
    }
    return [Check(name=name, look=look, remedy=remedy) for name, (look, remedy) in looks.items()]


def names() -> list[str]:
    """What cannot be tried without an engine."""
    return ["remapping", "capabilities", "limits", "firewall", "host not reachable", "agents apart", "DNS", "images"]


def engine(api: EngineApi) -> str:
    version, info = api.json("GET", "/version"), api.json("GET", "/info")
    found = tuple(int(part) for part in version["ApiVersion"].split("."))
    if found < OLDEST_API:
        raise HostError(f"Docker {version['Version']} (API {version['ApiVersion']}) is too old.")
    return f"Docker {version['Version']}, {info['Driver']}, cgroup v{info.get('CgroupVersion', '1')}"


def remapping(trials: Trials) -> str:
    answer = trials.run("busybox cat /proc/self/uid_map /proc/self/gid_map")
    wanted = ["0", str(REMAP_BASE), str(REMAP_COUNT)] * 2
    if answer.output.split() != wanted:
        raise HostError(f"Root in a container is not {REMAP_BASE}: {answer.output!r}")
    return f"root in a container is {REMAP_BASE} here"


def capabilities(trials: Trials) -> str:
    answer = trials.run("busybox grep -E '^Cap(Bnd|Prm|Eff):' /proc/self/status")
    found = {int(word, 16) for word in re.findall(r"[0-9a-f]{16}", answer.output)}
    wanted = sum(1 << BITS[name] for name in CAPABILITIES)
    if found != {wanted}:
        raise HostError(f"A container has the capabilities {answer.output.split()}, wanted {wanted:016x}.")
    return f"{len(CAPABILITIES)}, as set"


def resource_limits(trials: Trials) -> str:
    script = (
        "for f in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
        " /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max; do [ -r $f ] && busybox cat $f; done; true"
    )
    found = trials.run(script).output.split()
    if found != [str(MEMORY), str(PIDS)]:
        raise HostError(f"Limits of a container read {found}, wanted {MEMORY} and {PIDS}.")
    version = 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1
    return f"memory and pids hold (cgroup v{version})"


def firewall(instance: Instance) -> str:
    """Where the service runs its guard looks, so that what had to be repaired is written down."""
    try:
        reply = wire.call(instance.guard_socket, {"v": 1, "op": "network_ready"}, timeout=GUARD_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError):
        guard.make_firewall(instance).ensure()
        return "rules stand on both sides"
    if not reply["ok"]:
        raise HostError(reply["message"])
    return f"rules stand on both sides{_last_repair(instance)}"


def _last_repair(instance: Instance) -> str:
    history = wire.call(instance.guard_socket, {"v": 1, "op": "history"}, timeout=GUARD_SECONDS)["history"]
    return f"; last repair {history[-1]['at']}: {history[-1]['what']}" if history else ""


def host_unreachable(instance: Instance, trials: Trials) -> str:
    """Listens on every address of the host; a container tries each, and not one connection may arrive."""
    network = addresses.look(without="")
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))  # noqa: S104 - it must be reachable, else the trial would prove nothing
        listener.listen(16)
        listener.setblocking(False)
        number = listener.getsockname()[1]
        tries = [f"echo x | busybox timeout 3 busybox nc {address} {number} &" for address in network.addresses]
        trials.run(" ".join([*tries, "wait"]))
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return f"{len(network.addresses)} addresses tried, none answers"
        connection.close()
    raise HostError("A container reached a port of the host.")


def agents_apart(api: EngineApi, trials: Trials) -> str:
    """A container listens; one of another network must not reach it, one of its own network must (else it proves
    nothing)."""
    tag, made, listening = uuid.uuid4().hex[:8], list[str](), ""
    try:
        for side in ("a", "b"):
            body = {"Name": f"trial-{tag}-{side}", "Driver": "bridge"}
            made.append(str(api.json("POST", "/networks/create", body=body)["Id"]))
        listening = trials.create("busybox nc -ll -p 7777 -e /bin/busybox echo heard", network=made[0])
        api.call("POST", f"/containers/{listening}/start")
        networks = api.json("GET", f"/containers/{listening}/json")["NetworkSettings"]["Networks"]
        knock = f"busybox timeout 2 busybox nc {next(iter(networks.values()))['IPAddress']} 7777; true"
        patient = (
            f'for n in 1 2 3 4 5 6 7 8 9; do r=$({knock}); [ -n "$r" ] && echo $r && break; busybox sleep 0.2; done'
        )
        if "heard" not in trials.run(patient, network=made[0]).output:
            raise HostError("Two containers of one network do not reach each other, so this could not be tried.")
        if "heard" in trials.run(knock, network=made[1]).output:
            raise HostError("A container reached a container of another network.")
    finally:
        if listening:
            trials.remove(listening)
        for network in made:
            api.call("DELETE", f"/networks/{network}")
    return "a container does not reach one of another network"


def dns(trials: Trials) -> str:
    name = urllib.parse.urlsplit(base_image.mirror() or "").hostname or "debian.org"
    answer = trials.run(f"busybox timeout 10 busybox nslookup {name}")
    if answer.code:
        servers = ", ".join(str(found) for found in resolvers.resolvers(Path("/etc/resolv.conf").read_text()))
        raise HostError(f"A container cannot resolve {name} (name servers: {servers}).")
    return "names resolve in a container"


def images(api: EngineApi) -> str:
    missing = [tag for tag in (base_image.TAG, CONSTRUCT) if not api.has_image(tag)]
    if missing:
        raise HostError(f"Not there yet: {', '.join(missing)}.")
    return f"{base_image.TAG}, {CONSTRUCT}"
