"""Raises the kernel's counters of the host that containers use up together, and never lowers one."""

from __future__ import annotations

import resource
from pathlib import Path

_MOST = 2**31 - 1  # what the kernel takes for those that it keeps in an int

# Everything that a container takes of these is memory of its own, too: its own limit ends it, before one of these
# numbers, which count for the whole host or for all that root is charged with, ends somebody else's work.
WANTED = {
    "fs/file-max": 2**63 - 1,  # as systemd sets it
    "fs/aio-max-nr": _MOST,
    "fs/epoll/max_user_watches": _MOST,
    "fs/inotify/max_user_instances": _MOST,
    "fs/inotify/max_user_watches": _MOST,
    "fs/pipe-user-pages-soft": _MOST,
    "user/max_inotify_instances": _MOST,
    "user/max_inotify_watches": _MOST,
    "user/max_user_namespaces": 65536,
    "user/max_pid_namespaces": 65536,
    "user/max_net_namespaces": 65536,
    "user/max_mnt_namespaces": 65536,
    "user/max_ipc_namespaces": 65536,
    "user/max_uts_namespaces": 65536,
    "user/max_cgroup_namespaces": 65536,
    "kernel/keys/maxkeys": 2000,
    "kernel/keys/maxbytes": 2000000,
    "kernel/pid_max": 4194304,
    "kernel/threads-max": 1048576,
    "kernel/pty/max": 65536,  # each container has its own, lower one: see agents.broker.counters
}

NO_LIMIT = {"fs/pipe-user-pages-soft": 0}  # numbers that are no limit at all, and so not to be raised


def low(root: Path = Path("/proc/sys")) -> dict[Path, int]:
    """The files that are there and hold less than is wanted, or nothing that can be read, with what is wanted."""
    found = {}
    for name, wanted in WANTED.items():
        file = root / name
        try:
            value = int(file.read_text())
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            value = -1
        if value < wanted and value != NO_LIMIT.get(name):
            found[file] = wanted
    return found


def raise_limits(root: Path = Path("/proc/sys")) -> list[str]:
    """Raise what is lower than wanted; returns the names of those that could not be raised."""
    failed = []
    for file, wanted in low(root).items():
        try:
            file.write_text(f"{wanted}\n")
        except OSError:
            failed.append(name_of(file, root))
    return failed


def name_of(file: Path, root: Path = Path("/proc/sys")) -> str:
    """As sysctl calls it."""
    return ".".join(file.relative_to(root).parts)


def engine_limits() -> list[str]:
    """The words before a program, by which whatever it starts may take root's counts only so far.

    The kernel charges pending signals (and timers) and message queues of a container to root as well, and ends them
    where the sum exceeds what the program was allowed that made the container's user namespace. So the half of the
    signals is left for root itself. Message queues are few: the default number of one queue is a tenth of all that
    root may have, so that containers have none.
    """
    words = ["prlimit", "--msgqueue=0:"]
    signals = resource.getrlimit(resource.RLIMIT_SIGPENDING)[0]
    if signals != resource.RLIM_INFINITY:
        words.append(f"--sigpending={signals // 2}:")
    return words
