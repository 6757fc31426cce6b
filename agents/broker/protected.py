"""Directories that are never mounted wherever they appear: our own trees, and every engine's data and sockets."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from agents.broker import mountinfo
from agents.broker.config import CODE, Config
from agents.broker.mountinfo import Entry, Place

_ENGINE_DATA = (
    *("/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/lxd", "/var/lib/incus"),
    *("/var/lib/kubelet", "/var/lib/rancher", "/var/lib/nerdctl", "/var/lib/buildkit", "/var/lib/libvirt"),
    *("/var/snap/docker", "/var/snap/lxd"),
)
_ENGINES = {"dockerd", "containerd", "podman", "crio", "buildkitd", "lxd", "incusd", "rootlesskit"}
_DATA_OPTIONS = ("--data-root", "--graph", "-g", "--root", "--exec-root")
_SOCKETS = {"docker.sock", "containerd.sock", "podman.sock", "crio.sock", "buildkitd.sock", "unix.socket"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protected:
    """One tree. `parents` tells whether what contains it is refused, too."""

    path: str
    place: Place | None
    inode: tuple[int, int] | None
    reason: str
    parents: bool = True


def trees(config: Config, entries: list[Entry]) -> list[Protected]:
    """All protected trees and engine sockets as they are now. Looks only at local system directories."""
    found = [_tree(str(path), entries, "it belongs to this service") for path in (config.data, config.code, CODE)]
    found += [_tree(path, entries, "it holds the data of a container engine") for path in _ENGINE_DATA]
    for path, system in _engines_data():
        found.append(_tree(path, entries, "it holds the data of a container engine", parents=system))
    found += [_tree(path, entries, "it holds the socket of a container engine") for path in _engine_sockets()]
    return found


def _tree(path: str, entries: list[Entry], reason: str, *, parents: bool = True) -> Protected:
    place, inode = None, None
    with contextlib.suppress(OSError, LookupError):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            real, entry = os.readlink(f"/proc/self/fd/{fd}"), mountinfo.by_id(entries, mountinfo.mount_id(fd))
            if entry is not None:
                place = mountinfo.place(entry, real)
                path = real
            status = os.fstat(fd)
            inode = (status.st_dev, status.st_ino)
        finally:
            os.close(fd)
    return Protected(path=path, place=place, inode=inode, reason=reason, parents=parents)


def _processes() -> Iterator[tuple[str, list[str], int]]:
    """(pid, command line, uid) of the engines that run."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            if Path(f"/proc/{name}/comm").read_text(errors="replace").strip() in _ENGINES:
                line = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="surrogateescape")
                yield name, line.split("\0"), os.stat(f"/proc/{name}").st_uid


def _engines_data() -> Iterator[tuple[str, bool]]:
    """Data directories named in engines' settings, and whether root's engine uses them."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        set_in_file = json.loads(Path("/etc/docker/daemon.json").read_bytes()).get("data-root")
        if isinstance(set_in_file, str) and set_in_file.startswith("/"):
            yield set_in_file, True
    for _, words, uid in _processes():
        for index, word in enumerate(words):
            name, _, value = word.partition("=")
            if name in _DATA_OPTIONS:
                value = value or (words[index + 1] if index + 1 < len(words) else "")
                if value.startswith("/") and value != "/":
                    yield value, uid == 0


def _engine_sockets() -> set[str]:
    """Paths of listening engine sockets, in whatever network namespace an engine runs."""
    found: set[str] = set()
    tables = ["/proc/net/unix", *(f"/proc/{pid}/net/unix" for pid, _, _ in _processes())]
    for table in tables:
        with contextlib.suppress(OSError), open(table, "rb") as file:
            for line in file:
                fields = line.decode(errors="surrogateescape").rstrip("\n").split(None, 7)
                if len(fields) == 8 and fields[7].startswith("/") and os.path.basename(fields[7]) in _SOCKETS:
                    found.add(fields[7])
    return {path for path in found if _is_socket(path)}


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def conflict(protected: list[Protected], *, path: str, place: Place, inode: tuple[int, int]) -> str:
    """Why the directory cannot be mounted, or an empty string: by name, by inode and by its place on disk."""
    for tree in protected:
        same = inode == tree.inode or (tree.place is not None and place.within(tree.place))
        if same or mountinfo.inside(path, tree.path):
            return tree.reason
        if tree.parents and (
            mountinfo.inside(tree.path, path) or (tree.place is not None and tree.place.within(place))
        ):
            return f"it contains {tree.path}: {tree.reason}"
    return ""
