"""The id mapping of a mount: the owner's ids become the container's, every other id stays out of its reach."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from agents.broker import syscalls

MOST_ID = 2**32 - 2  # the last valid id; one more means "none"


def moved_gids(gid: int, allowed: Sequence[int], claude: int) -> dict[int, int]:
    """On-disk gid → gid in the container: the primary one → `claude`, the others → 2001, 2002 …"""
    return {gid: claude, **{each: 2001 + n for n, each in enumerate(allowed)}}


def id_map(moved: Mapping[int, int], *, base: int, count: int) -> str:
    """Lines for uid_map or gid_map of the namespace that a mount is mapped with: id on disk, id seen, how many.

    The ids in `moved` appear at base + value, inside the container's range base … base+count; every other id keeps
    its number, so that nothing in the container has power over it. Ids on disk that lie in the range themselves
    are left out: they show as nobody's, and are nobody's to use.
    """
    lines: list[tuple[int, int, int]] = []
    for first, last in ((0, base - 1), (base + count, MOST_ID)):
        at = first
        for disk in sorted(each for each in moved if first <= each <= last):
            if disk > at:
                lines.append((at, at, disk - at))
            lines.append((disk, base + moved[disk], 1))
            at = disk + 1
        if at <= last:
            lines.append((at, at, last - at + 1))
    return "".join(f"{disk} {seen} {many}\n" for disk, seen, many in lines)


def user_namespace(uid_map: str, gid_map: str) -> int:
    """A descriptor of a user namespace with these maps; it lives as long as descriptors or mounts use it."""
    ready, ready_w = os.pipe()
    go, go_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready)
            os.close(go_w)
            syscalls.unshare_user_namespace()
            os.write(ready_w, b"x")
            os.read(go, 1)
        finally:
            os._exit(0)
    os.close(ready_w)
    os.close(go)
    try:
        if os.read(ready, 1) != b"x":
            raise OSError("the kernel refused a user namespace (see /proc/sys/user/max_user_namespaces)")
        for name, content in (("uid_map", uid_map), ("gid_map", gid_map)):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, content.encode())  # the kernel takes the whole map in one write only
            finally:
                os.close(fd)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(go_w)
        os.close(ready)
        os.waitpid(pid, 0)
