"""The filter of system calls for every container: what this engine allows by default, less what reaches the host.

Why not the default alone: AF_VSOCK sockets belong to no network namespace (vsock(7)), so no firewall rule keeps an
agent from a listener of the host or of its hypervisor; older engines allow them, newer ones compare 64 bits where the
kernel looks at 32. io_uring opens sockets without the call `socket`, past every filter; older engines allow it.
`socketcall` of 32-bit programs hides its arguments from filters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.host.engine_api import EngineApi
from agents.host.instance import Instance
from agents.host.settings import write_private
from agents.host.shell import HostError, run
from agents.host.trial import trials

FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
REFUSED = frozenset({"socket", "socketcall", "io_uring_setup", "io_uring_enter", "io_uring_register"})
LATER = frozenset({"socket"})  # allowed again, for FAMILIES only
BUNDLE = "containerd/io.containerd.runtime.v2.task/moby"  # below run-root: what runc is told of each container

Profile = dict[str, Any]


def file(instance: Instance) -> Path:
    """The profile made from the default of the dockerd that is installed now, by this code; it may not exist yet."""
    version = run(["dockerd", "--version"]) + json.dumps([FAMILIES, sorted(REFUSED)])
    return instance.host_dir / f"seccomp-{hashlib.sha256(version.encode()).hexdigest()[:16]}.json"


def make(instance: Instance, api: EngineApi, *, busybox: Path) -> None:
    """Write the profile; the engine must run with its own default. Raises HostError if that is none."""
    target = file(instance)
    profile = narrowed(_default(instance, api, busybox))
    for old in instance.host_dir.glob("seccomp-*.json"):
        old.unlink()
    write_private(target, json.dumps(profile, indent=1).encode())


def _default(instance: Instance, api: EngineApi, busybox: Path) -> Profile:
    """What the engine gives a container that asks for nothing, as runc is told it."""
    with trials(api, busybox) as made:
        container = made.create("exec /bin/busybox sleep 60", own_capabilities=False)
        try:
            api.call("POST", f"/containers/{container}/start")
            bundle = json.loads((instance.run_root / BUNDLE / container / "config.json").read_text())
        finally:
            made.remove(container)
    found = bundle.get("linux", {}).get("seccomp")
    if not isinstance(found, dict):
        raise HostError(
            "This engine gives its containers no seccomp profile.",
            remedy="The kernel and Docker must be built with seccomp; see `docker info`, Security Options.",
        )
    return found


def narrowed(default: Mapping[str, Any]) -> Profile:
    """`default` without REFUSED, and with sockets of FAMILIES only. Raises HostError for a list of what is forbidden.

    A family is compared as equal, never as unequal: of the 64 bits that a filter sees the kernel uses 32.
    """
    if default.get("defaultAction") not in {"SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS"}:
        raise HostError(f"The engine's default seccomp profile allows what it does not name: {default!r:.200}")
    rules = []
    for rule in default.get("syscalls", ()):
        names = [name for name in rule["names"] if name not in REFUSED]
        if names:
            rules.append({**rule, "names": names})
    rules += [_socket(number) for number in FAMILIES.values()]
    return {**default, "syscalls": rules}


def _socket(family: int) -> dict[str, Any]:
    same = {"index": 0, "value": family, "valueTwo": 0, "op": "SCMP_CMP_EQ"}
    return {"names": sorted(LATER), "action": "SCMP_ACT_ALLOW", "args": [same]}
