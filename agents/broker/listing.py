"""The names of the directories in a directory, as its owner sees them, for the path picker."""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Iterator
from typing import Any

from agents.broker import mountinfo, owner, rules, syscalls
from agents.broker.accounts import Identity
from agents.broker.protocol import MOST_COMPONENT, Refusal

MOST_READ = 50_000  # entries looked at; a larger directory says that there is more


def names(path: str, *, prefix: str, most: int, identity: Identity, until: float) -> dict[str, Any]:
    """{path, names: at most `most` sorted names that begin with `prefix`, more: whether there are others}.

    Only directories (links to directories too), only names that are valid UTF-8 without control characters; hidden
    ones only if the prefix begins with a dot. Raises Refusal, at the time `until` (monotonic) at the latest.
    """
    rules.check_text(path)
    plain = rules.plain(path)
    if plain != "/":
        _check_listable(plain)
    if "/" in prefix or len(prefix) > MOST_COMPONENT:
        raise Refusal("bad-request", detail="“prefix” is the beginning of one name")

    def task() -> tuple[owner.Answer, int | None]:
        return _read(plain, prefix, most), None

    ids = {"uid": identity.uid, "gid": identity.gid, "groups": identity.groups}
    try:
        with owner.run_as(task, until=until, **ids) as (answer, _):  # type: ignore[arg-type]
            if "errno" in answer:
                raise _refusal(plain, identity, answer["errno"])
            if "fstype" in answer:
                allowed = ", ".join(rules.FILE_SYSTEMS)
                raise Refusal("filesystem", path=plain, fstype=answer["fstype"], detail="", allowed=allowed)
            return {"ok": True, "path": plain, **answer}
    except owner.Hangs:
        raise Refusal("timeout", path=plain, seconds=int(owner.SECONDS_TO_LOOK)) from None


def _check_listable(path: str) -> None:
    """The trees that are never mounted are not listed; the shared places are, for one's own directories in them."""
    if path not in rules.SHARED_PLACES:
        rules.check_refused_tree(path, asked=path)
    entry = mountinfo.covering(mountinfo.read(), path)
    if entry is not None and entry.fstype not in rules.FILE_SYSTEMS:
        allowed = ", ".join(rules.FILE_SYSTEMS)
        raise Refusal("filesystem", path=path, fstype=entry.fstype, detail="", allowed=allowed)


def _read(path: str, prefix: str, most: int) -> owner.Answer:
    try:
        fd = syscalls.openat2(path)
        entry = mountinfo.by_id(mountinfo.read(), mountinfo.mount_id(fd))
        if entry is None or entry.fstype not in rules.FILE_SYSTEMS:
            return {"fstype": entry.fstype if entry else "unknown"}
        directory = syscalls.openat2(".", at=fd, flags=os.O_RDONLY | os.O_DIRECTORY)
        chosen = heapq.nsmallest(most + 1, _directories(directory, prefix))
    except OSError as error:
        return {"errno": error.errno}
    return {"names": chosen[:most], "more": len(chosen) > most}


def _directories(directory: int, prefix: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for count, entry in enumerate(entries):
            if count >= MOST_READ:
                return
            name = entry.name
            hidden = name.startswith(".") and not prefix.startswith(".")
            if hidden or not name.startswith(prefix) or not name.isprintable() or not entry.is_dir():
                continue
            yield name


def _refusal(path: str, identity: Identity, number: int) -> Refusal:
    if number == errno.ENOENT:
        return Refusal("missing", path=path)
    if number in (errno.ENOTDIR, errno.ELOOP):
        return Refusal("not-a-directory", path=path, detail="")
    reason = "it or a directory above it cannot be entered" if number == errno.EACCES else os.strerror(number)
    return Refusal("not-readable", path=path, account=identity.account, reason=reason)
