"""Checks of the doctor on the host itself: kernel, file systems, ids, space."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from agents.broker import ranges, syscalls
from agents.host import addresses, layout, limits, processes
from agents.host.checks import Check
from agents.host.engine_config import dockerd_file
from agents.host.instance import Instance
from agents.host.shell import HostError

KERNEL = (5, 12)  # the first with id-mapped mounts
SPACE = 15 << 30
NAMESPACES = ("user", "net", "pid", "mnt", "ipc", "uts")


def checks(instance: Instance) -> list[Check]:
    """In the order in which they are shown."""
    return [
        Check(name="kernel", look=kernel, remedy="Use a kernel of Debian 12 or newer."),
        Check(name="namespaces", look=namespaces, remedy="Enable the namespace in the kernel."),
        Check(name="id-mapped mounts", look=idmapped, remedy="Keep projects on ext4, xfs, btrfs or f2fs."),
        Check(name="id range", look=id_range, remedy="Free the range in /etc/subuid and /etc/subgid."),
        Check(name="directories", look=lambda: directories(instance), remedy="See the owner and mode it names."),
        Check(name="kernel counters", look=counters, remedy="Raise them with sysctl; something keeps root from it."),
        Check(name="addresses", look=lambda: free_addresses(instance), remedy="Free a private range; see ip -4 route."),
        Check(name="disk space", look=lambda: space(instance), remedy="Images and containers need 15 GiB."),
        Check(name="port", look=lambda: port(instance), remedy="Start with --port NUMBER."),
    ]


def kernel() -> str:
    release = os.uname().release
    parts = release.split(".")
    if (int(parts[0]), int(parts[1])) < KERNEL:
        raise HostError(f"Linux {release} is older than {KERNEL[0]}.{KERNEL[1]}.")
    return f"Linux {release}"


def namespaces() -> str:
    missing = [name for name in NAMESPACES if not Path(f"/proc/self/ns/{name}").exists()]
    if missing:
        raise HostError(f"The kernel has no {', '.join(missing)} namespace.")
    return ", ".join(NAMESPACES)


def idmapped() -> str:
    """Really makes one (detached, never visible) over each file system that homes lie on."""
    places = {"/home": ""}
    for entry in pwd.getpwall():
        if 1000 <= entry.pw_uid < 65534 and os.path.isdir(entry.pw_dir):
            places[entry.pw_dir] = entry.pw_name
    seen: dict[int, str] = {}
    with user_namespace() as namespace:
        for place in places:
            if not os.path.isdir(place) or (device := os.stat(place).st_dev) in seen:
                continue
            _try_idmap(place, namespace)
            seen[device] = place
    return f"work on {', '.join(seen.values())}"


def _try_idmap(place: str, namespace: int) -> None:
    opened = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mount = syscalls.clone_mount(opened)
        try:
            syscalls.mount_setattr(mount, on=syscalls.MOUNT_ATTR_NOSUID, user_namespace=namespace)
        except OSError as error:
            raise HostError(f"The file system of {place} cannot be id-mapped: {error.strerror}.") from error
        finally:
            os.close(mount)
    finally:
        os.close(opened)


@contextlib.contextmanager
def user_namespace() -> Iterator[int]:
    """A user namespace with a mapping of one id, held by a child of ours for the time of the block."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(go[1])  # else it would keep its own pipe open
            syscalls.unshare_user_namespace()
            os.write(ready[1], b"1")
            os.read(go[0], 1)
        finally:
            os._exit(0)
    try:
        os.close(ready[1])
        if os.read(ready[0], 1) != b"1":
            raise HostError("No user namespace can be made.", remedy="Set user.max_user_namespaces above 0.")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text("0 1879048192 1\n")
        namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield namespace
        finally:
            os.close(namespace)
    finally:
        os.close(go[1])
        os.waitpid(child, 0)
        os.close(ready[0])
        os.close(go[0])


def id_range() -> str:
    for file in (ranges.UIDS, ranges.GIDS):
        if clash := ranges.clash(ranges.read(file)):
            raise HostError(f"{file}: {clash}.")
    return f"{ranges.OURS} is ours"


def directories(instance: Instance) -> str:
    present = [line for line in layout.table(instance) if os.path.lexists(line.path)]
    for line in present:
        layout.check(line)
        layout.check_chain(line.path.parent)
    return f"{len(present)} are as they must be" if present else "not made yet"


def counters() -> str:
    stuck = [limits.name_of(file) for file in limits.low() if not os.access(file, os.W_OK)]
    if stuck:
        raise HostError(f"Too low and not to be raised: {', '.join(stuck)}.")
    return "high enough, or raised at the start"


def free_addresses(instance: Instance) -> str:
    network = addresses.look(without=instance.veth)
    if not network.uplinks:
        raise HostError("The host has no default route.", remedy="Agents need a way to the internet.")
    chosen = addresses.choose(network.routes)
    return f"uplink {', '.join(network.uplinks)}, free range {chosen.pool}"


def space(instance: Instance) -> str:
    place = instance.data if instance.data.exists() else instance.data.parent
    free = shutil.disk_usage(place).free
    if free < SPACE:
        raise HostError(f"{free >> 30} GiB are free below {place}.")
    return f"{free >> 30} GiB free"


def port(instance: Instance) -> str:
    running = processes.find(program="dockerd", argument=dockerd_file(instance))
    if running is not None:
        running.close()
        return "the service runs"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", instance.port))
        except OSError as error:
            raise HostError(f"127.0.0.1:{instance.port}: {error.strerror}.") from error
    return f"127.0.0.1:{instance.port} is free"
