"""Directories that are never mounted wherever they appear: our own trees, and every engine's data and sockets."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from agents.broker import mountinfo, syscalls
from agents.broker.config import CODE, Config
from agents.broker.mountinfo import Entry, Place
from agents.broker.rules import FILE_SYSTEMS

_ENGINE_DATA = (
    *("/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/lxd", "/var/lib/incus"),
    *("/var/lib/kubelet", "/var/lib/rancher", "/var/lib/nerdctl", "/var/lib/buildkit", "/var/lib/libvirt"),
    *("/var/snap/docker", "/var/snap/lxd"),
)
_PROGRAMS = {"dockerd", "containerd", "podman", "crio", "buildkitd", "lxd", "incusd", "rootlesskit"}
_DATA_OPTIONS = ("--data-root", "--graph", "-g", "--root", "--exec-root")
_CANNOT_HANG = frozenset({*FILE_SYSTEMS, "overlay", "zfs", "ext3", "devtmpfs"})
_SOCKETS = {"docker.sock", "containerd.sock", "podman.sock", "crio.sock", "buildkitd.sock", "unix.socket"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protected:
    """One tree. `parents` tells whether what contains it is refused, too."""

    path: str
    place: Place | None
    inode: tuple[int, int] | None
    reason: str
    parents: bool = True


def trees(config: Config, entries: list[Entry], *, uid: int) -> list[Protected]:
    """All protected trees and engine sockets as they are now, for a request of the account `uid`.

    What other users' processes say of themselves is not looked at: they could name a directory that hangs.
    """
    ours, theirs = "it belongs to this service", "it holds the data of a container engine"
    found = [_tree(str(path), entries, ours) for path in (config.data, config.stage, config.code, CODE)]
    found += [_tree(path, entries, theirs) for path in (*_ENGINE_DATA, *_engines_data(0))]
    for path in _engines_data(uid):
        found.append(Protected(path=path, place=None, inode=None, reason=theirs, parents=False))
    socket = "it is the socket of a container engine"
    sockets = [_tree(path, entries, socket, links=False) for path in _engine_sockets(entries, owners={0, uid})]
    return found + [each for each in sockets if each.inode is not None]


def _tree(path: str, entries: list[Entry], reason: str, *, links: bool = True) -> Protected:
    """The tree at `path` with its inode and place, where a file system that cannot hang holds it."""
    place, inode = None, None
    covering = mountinfo.covering(entries, path)
    with contextlib.suppress(OSError, LookupError):
        if covering is None or covering.fstype not in _CANNOT_HANG:
            raise LookupError(path)
        resolve = syscalls.RESOLVE_NO_MAGICLINKS | (0 if links else syscalls.RESOLVE_NO_SYMLINKS)
        fd = syscalls.openat2(path, resolve=resolve)
        try:
            real, entry = os.readlink(f"/proc/self/fd/{fd}"), mountinfo.by_id(entries, mountinfo.mount_id(fd))
            if entry is not None:
                place = mountinfo.place(entry, real)
                path = real
            status = os.fstat(fd)
            inode = (status.st_dev, status.st_ino)
        finally:
            os.close(fd)
    return Protected(path=path, place=place, inode=inode, reason=reason)


def _engines(uid: int) -> Iterator[tuple[str, list[str]]]:
    """(pid, command line) of the engines that run as `uid`."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if not name.isdecimal() or os.stat(f"/proc/{name}").st_uid != uid:
                continue
            if Path(f"/proc/{name}/comm").read_text(errors="replace").strip() in _PROGRAMS:
                line = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="surrogateescape")
                yield name, line.split("\0")


def _engines_data(uid: int) -> Iterator[str]:
    """Data directories named in the settings of the engines of `uid`."""
    lines = [words for _, words in _engines(uid)]
    named = [value for words in lines for value in _values(words, _DATA_OPTIONS)]
    if uid == 0:  # of files only root's are read: a user's could be anything
        files = [value for words in lines for value in _values(words, ("--config-file",))]
        named += [root for file in ("/etc/docker/daemon.json", *files) if (root := _data_root(file))]
    return iter([value for value in named if value.startswith("/") and value != "/"])


def _values(words: list[str], options: tuple[str, ...]) -> Iterator[str]:
    """What a command line says for one of `options`, as `--name value` or `--name=value`."""
    for index, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in options:
            yield value or (words[index + 1] if index + 1 < len(words) else "")


def _data_root(file: str) -> str:
    """The data directory that a dockerd's settings file names, or an empty string."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = json.loads(Path(file).read_bytes()).get("data-root")
        return found if isinstance(found, str) else ""
    return ""


def _engine_sockets(entries: list[Entry], *, owners: set[int]) -> Iterator[str]:
    """Paths of engine sockets that belong to one of `owners`, in whatever network namespace an engine of root's runs.

    Anybody can bind thousands of sockets with such names, anywhere, and any path in a mount namespace of their own:
    only what is really there and matters for the request counts, and the rest has to cost next to nothing.
    """
    tops = {entry.point: entry for entry in entries}  # of those at one point the last is on top
    for path in _bound_sockets():
        if _top(tops, path).fstype in _CANNOT_HANG:
            with contextlib.suppress(OSError):
                fd = syscalls.openat2(path, resolve=syscalls.RESOLVE_NO_MAGICLINKS | syscalls.RESOLVE_NO_SYMLINKS)
                try:
                    owner = os.fstat(fd).st_uid
                finally:
                    os.close(fd)
                if owner in owners:
                    yield path


def _top(tops: Mapping[str, Entry], path: str) -> Entry:
    """The mount that `path` lies on, as mountinfo.covering says, for many paths."""
    while path not in tops:
        path = path.rpartition("/")[0] or "/"
    return tops[path]


def _bound_sockets() -> set[str]:
    found: set[str] = set()
    namespaces: set[int] = set()
    for pid in ("self", *(pid for pid, _ in _engines(0))):
        with contextlib.suppress(OSError):
            namespace = os.stat(f"/proc/{pid}/ns/net").st_ino
            if namespace in namespaces:
                continue
            namespaces.add(namespace)
            with open(f"/proc/{pid}/net/unix", "rb") as file:
                for line in file:
                    fields = line.decode(errors="surrogateescape").rstrip("\n").split(None, 7)
                    if len(fields) == 8 and fields[7].startswith("/") and os.path.basename(fields[7]) in _SOCKETS:
                        found.add(fields[7])
    return found


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
