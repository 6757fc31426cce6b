"""What the kernel counts for a container beyond its cgroups, bounded before anything of the image runs."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable

from agents.broker import mountinfo, syscalls
from agents.broker.mountinfo import Entry
from agents.broker.protocol import Refusal

# What the container's user namespace may use at most, per user in it. Whatever it uses is charged to the host's root.
COUNTERS = {
    **{f"max_{kind}_namespaces": 0 for kind in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time")},
    "max_inotify_instances": 64,
    "max_inotify_watches": 65536,
    "max_fanotify_groups": 8,
    "max_fanotify_marks": 1024,
}

# The kernel has one number of pseudo-terminals for all containers; without one no container with a TTY starts.
TERMINALS = 512
# cgroup v1 leaves the buffers of sockets out of a container's memory; v2 counts them, and has no such file.
SOCKET_BYTES = 128 * 1024 * 1024
_SOCKET_FILE = "memory.kmem.tcp.limit_in_bytes"
_DEVPTS = re.compile(r"(gid|mode|ptmxmode)=[0-9]+")


def bound(pid: int, namespace: int, *, entries: list[Entry]) -> None:
    """Bound the container whose first process is `pid`, with the user namespace `namespace` and mounts `entries`.

    Idempotent; a number that is lower already stays. Raises Refusal `internal` when one of them cannot be set.
    """
    limit_terminals(pid, entries)
    limit_socket_memory(pid)
    lower_counters(namespace)


def lower_counters(namespace: int) -> None:
    """Lower /proc/sys/user/max_* inside the user namespace."""

    def lower() -> None:
        syscalls.enter_user_namespace(namespace)
        for name, most in COUNTERS.items():
            _lower(name, most)

    _in_child(lower, what="lowering the container's kernel counters")


def _lower(name: str, most: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # an older kernel does not count these
        fd = os.open(f"/proc/sys/user/{name}", os.O_RDWR | os.O_CLOEXEC)
        try:
            if int(os.read(fd, 32)) > most:
                os.pwrite(fd, str(most).encode(), 0)
        finally:
            os.close(fd)


def limit_terminals(pid: int, entries: list[Entry]) -> None:
    """Let the container's own devpts hold TERMINALS at most; its root may not mount it anew."""
    pts = next((entry for entry in reversed(entries) if entry.point == "/dev/pts"), None)
    if pts is None or pts.fstype != "devpts":
        raise Refusal("mismatch", reason="its /dev/pts is not the engine's")
    # A remount takes what is not named for its default: owner and modes are said again.
    kept = sorted(option for option in pts.super_options if _DEVPTS.fullmatch(option))
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def remount() -> None:
        syscalls.enter_mount_namespace(namespace)
        syscalls.remount("/dev/pts", options=",".join([*kept, f"max={TERMINALS}"]))

    try:
        _in_child(remount, what="limiting the container's terminals")
    finally:
        os.close(namespace)


def limit_socket_memory(pid: int) -> None:
    """Bound the memory of its sockets' buffers where the cgroup does not count it; nothing to do on cgroup v2."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    path = next((path for _, controllers, path in lines if "memory" in controllers.split(",")), None)
    mount = next((e for e in mountinfo.read() if e.fstype == "cgroup" and "memory" in e.super_options), None)
    if path is None or mount is None:
        return
    below = path.removeprefix(mount.root.rstrip("/"))
    try:
        fd = os.open(f"{mount.point}{below}/{_SOCKET_FILE}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a kernel without this count
        return
    try:
        os.write(fd, str(SOCKET_BYTES).encode())
    except OSError as error:
        if error.errno != errno.EBUSY:  # a replay: its sockets hold more already
            raise Refusal("internal", what="limiting the memory of the container's sockets") from error
    finally:
        os.close(fd)


def _in_child(work: Callable[[], None], *, what: str) -> None:
    """Run `work` in a child, for it may leave the broker's namespaces. Raises Refusal `internal` if it fails."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            work()
            os.write(theirs, b"x")
        finally:
            os._exit(0)
    os.close(theirs)
    try:
        done = os.read(ours, 1)
    finally:
        os.close(ours)
        os.waitpid(pid, 0)
    if done != b"x":
        raise Refusal("internal", what=what)
