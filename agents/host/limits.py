"""Raises the kernel's counters of the host that many containers use up, and never lowers one."""

from __future__ import annotations

from pathlib import Path

# Each agent's own share is bounded inside its user namespace; these are what all of them have together.
WANTED = {
    "fs/inotify/max_user_instances": 8192,
    "fs/inotify/max_user_watches": 1048576,
    "user/max_inotify_instances": 8192,
    "user/max_inotify_watches": 1048576,
    "user/max_user_namespaces": 65536,
    "user/max_pid_namespaces": 65536,
    "user/max_net_namespaces": 65536,
    "user/max_mnt_namespaces": 65536,
    "user/max_ipc_namespaces": 65536,
    "user/max_uts_namespaces": 65536,
    "user/max_cgroup_namespaces": 65536,
    "kernel/keys/maxkeys": 2000,
    "kernel/keys/maxbytes": 2000000,
    "kernel/pid_max": 131072,
    "fs/aio-max-nr": 1048576,
}


def raise_limits(root: Path = Path("/proc/sys")) -> list[str]:
    """Raise what is lower than wanted; returns the names of those that could not be raised."""
    failed = []
    for name, wanted in WANTED.items():
        file = root / name
        try:
            if int(file.read_text()) < wanted:
                file.write_text(f"{wanted}\n")
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            failed.append(name.replace("/", "."))
    return failed
