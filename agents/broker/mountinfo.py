"""Reading mountinfo: which mount a descriptor is on, what lies below it, where that is inside its file system."""

from __future__ import annotations

import dataclasses
import re

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One line. `device` is "major:minor" of the superblock; `root` the mounted directory inside the file system.

    `options` are those of the mount, `super_options` those of its file system, which all its mounts share.
    """

    id: int
    device: str
    root: str
    point: str
    options: frozenset[str]
    fstype: str
    source: str
    super_options: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a directory is inside its file system, whatever it is mounted as."""

    device: str
    path: str

    def within(self, other: Place) -> bool:
        """Whether it is `other` or lies below it."""
        return self.device == other.device and inside(self.path, other.path)


def inside(path: str, parent: str) -> bool:
    """Whether the plain absolute path `path` is `parent` or below it."""
    return path == parent or path.startswith(parent.rstrip("/") + "/")


def _plain(field: bytes) -> str:
    raw = _OCTAL.sub(lambda found: bytes([int(found.group(1), 8)]), field)
    return raw.decode(errors="surrogateescape")


def parse(content: bytes) -> list[Entry]:
    """The entries of a mountinfo file (proc(5)), in its order: of those at one point the last is on top."""
    entries = []
    for line in content.splitlines():
        left, _, right = line.partition(b" - ")
        first, second = left.split(b" "), right.split(b" ")
        entries.append(
            Entry(
                id=int(first[0]),
                device=first[2].decode(),
                root=_plain(first[3]),
                point=_plain(first[4]),
                options=frozenset(first[5].decode().split(",")),
                fstype=second[0].decode(),
                source=_plain(second[1]) if len(second) > 1 else "",
                super_options=frozenset(
                    second[2].decode(errors="surrogateescape").split(",") if len(second) > 2 else ()
                ),
            )
        )
    return entries


def read(pid: int | str = "self") -> list[Entry]:
    """The mounts that the process `pid` sees."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        return parse(file.read())


def mount_id(fd: int) -> int:
    """Id of the mount that `fd` is on; touches no file system."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        for line in file:
            if line.startswith(b"mnt_id:"):
                return int(line.split()[1])
    raise LookupError(f"descriptor {fd} has no mount id")


def by_id(entries: list[Entry], number: int) -> Entry | None:
    """The entry with that mount id."""
    return next((entry for entry in entries if entry.id == number), None)


def covering(entries: list[Entry], path: str) -> Entry | None:
    """The mount that `path` lies on, going by the text alone."""
    found = None
    for entry in entries:
        if inside(path, entry.point) and (found is None or len(entry.point) >= len(found.point)):
            found = entry
    return found


def below(entries: list[Entry], path: str) -> list[str]:
    """Mount points strictly below `path`."""
    return sorted({entry.point for entry in entries if entry.point != path and inside(entry.point, path)})


def place(entry: Entry, path: str) -> Place:
    """Where `path`, which lies on `entry`, is inside the file system."""
    rest = path[len(entry.point.rstrip("/")) :].strip("/")
    return Place(device=entry.device, path=f"{entry.root.rstrip('/')}/{rest}".rstrip("/") or "/")
