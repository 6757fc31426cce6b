"""Mounts within mounts: other file systems below a source, and destinations that lie inside one another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from agents.broker import mountinfo, owner, syscalls
from agents.broker.accounts import Identity
from agents.broker.mountinfo import inside
from agents.broker.paths import Found
from agents.broker.protocol import Mount, Refusal

MOST_NAMED = 5


def check(
    mounts: Sequence[Mount], found: Mapping[int, Found], identity: Identity, *, until: float
) -> dict[int, Refusal]:
    """The refusals about mounts within mounts, by position."""
    refused = check_submounts(mounts, found)
    for index in found:
        outer = _outer(index, mounts, found)
        if outer is not None and index not in refused:
            rest = os.path.relpath(mounts[index].destination, mounts[outer].destination)
            try:
                there = _has_directory(found[outer], rest, identity, until)
            except Refusal as refusal:
                refused[index] = refusal.at(index)
                continue
            if not there:
                reason = f"it lies in {mounts[outer].destination}, and {found[outer].path} has no directory {rest}"
                refused[index] = Refusal("destination-bad", path=mounts[index].destination, reason=reason).at(index)
    return refused


def check_submounts(mounts: Sequence[Mount], found: Mapping[int, Found]) -> dict[int, Refusal]:
    """Refuse each source with mounts below it, unless each of them is mounted at its own place, too."""
    entries = mountinfo.read()
    given = {(each.path, mounts[index].destination) for index, each in found.items()}
    refused = {}
    for index, each in found.items():
        destination = mounts[index].destination
        missing = [
            point
            for point in mountinfo.below(entries, each.path)
            if (point, destination + point[len(each.path) :]) not in given
        ]
        if missing:
            more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
            below = ", ".join(missing[:MOST_NAMED]) + more
            refused[index] = Refusal("submounts", path=each.source, below=below).at(index)
    return refused


def _outer(index: int, mounts: Sequence[Mount], found: Mapping[int, Found]) -> int | None:
    """The mount whose destination most closely surrounds that of `index`."""
    destination = mounts[index].destination
    around = [
        other
        for other in found
        if other != index
        and inside(destination, mounts[other].destination)
        and destination != mounts[other].destination
    ]
    return max(around, key=lambda other: len(mounts[other].destination), default=None)


def _has_directory(outer: Found, rest: str, identity: Identity, until: float) -> bool:
    """Whether the directory exists below the source already, as its owner sees it, without following links.

    Docker would make a missing mount point as root of the container, who may not create anything there.
    """

    def task() -> tuple[owner.Answer, int | None]:
        try:
            resolve = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
            flags = os.O_PATH | os.O_DIRECTORY
            os.close(syscalls.openat2(rest, at=outer.fd, flags=flags, resolve=resolve))
        except OSError:
            return {"there": False}, None
        return {"there": True}, None

    ids = {"uid": identity.uid, "gid": identity.gid, "groups": identity.allowed_gids}
    try:
        with owner.run_as(task, until=until, keep=[outer.fd], **ids) as (answer, _):  # type: ignore[arg-type]
            return bool(answer["there"])
    except owner.Hangs:
        raise Refusal("timeout", path=outer.source, seconds=int(owner.SECONDS_TO_LOOK)) from None
