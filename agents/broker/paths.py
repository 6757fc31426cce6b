"""Looking at a mount's source as its owner: what it is, and whether it may be given to an agent."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
import time
from collections.abc import Iterator
from typing import Any

from agents.broker import mountinfo, names, owner, protected, rules, syscalls
from agents.broker.accounts import Identity
from agents.broker.mountinfo import Entry
from agents.broker.protocol import Mode, Mount, Refusal

READ = os.R_OK | os.X_OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A source that may be mounted. `fd` (O_PATH) pins it; `path` is its real path; `mount_device` is "major:minor"."""

    fd: int
    source: str
    path: str
    device: int
    inode: int
    fstype: str
    mount_device: str

    def told(self) -> dict[str, Any]:
        """What a check answers."""
        return {
            "ok": True,
            "source": self.source,
            "real_path": self.path,
            "device": self.device,
            "inode": self.inode,
            "fstype": self.fstype,
        }


@contextlib.contextmanager
def look(mount: Mount, identity: Identity, trees: list[protected.Protected], *, until: float) -> Iterator[Found]:
    """Open the source as its owner and check it; mounts below it are not looked at. Raises Refusal.

    Nothing is mounted. Blocks until the time `until` (monotonic) at most.
    """
    source = rules.check_source_text(mount.source)
    _check_covering(source)
    if time.monotonic() >= until:
        raise Refusal("not-looked", path=source, seconds=int(owner.SECONDS_TO_LOOK))
    try:
        with _opened(source, mount.mode, identity, until) as (answer, fd):
            if fd is None:
                raise _walk_refusal(source, identity, answer, until)
            found, status = _pinned(source, fd)
            rules.check_refused_tree(found.path, asked=source)
            _check_owner_of_shared(found, status, identity)
            _check_protected(found, trees)
            if not stat.S_ISDIR(status.st_mode):
                raise Refusal("not-a-directory", path=source, detail="")
            _check_access(found, status, answer, identity, until)
            _check_allowed_groups(found, status, mount.mode, identity, until)
            yield found
    except owner.Hangs:
        raise Refusal("timeout", path=source, seconds=int(owner.SECONDS_TO_LOOK)) from None


def _check_covering(source: str) -> None:
    """Refuse by the mount table alone, before the file system is touched."""
    entry = mountinfo.covering(mountinfo.read(), source)
    if entry is not None and entry.fstype not in rules.FILE_SYSTEMS:
        raise _file_system_refusal(source, entry)


def _file_system_refusal(source: str, entry: Entry, detail: str = "") -> Refusal:
    allowed = ", ".join(rules.FILE_SYSTEMS)
    return Refusal("filesystem", path=source, fstype=entry.fstype, detail=detail, allowed=allowed)


def _opened(
    source: str, mode: Mode, identity: Identity, until: float
) -> contextlib.AbstractContextManager[tuple[owner.Answer, int | None]]:
    def task() -> tuple[owner.Answer, int | None]:
        return _open_as_owner(source, mode)

    return owner.run_as(task, uid=identity.uid, gid=identity.gid, groups=identity.groups, until=until)


def _open_as_owner(source: str, mode: Mode) -> tuple[owner.Answer, int | None]:
    """In the child: open, look at the file system's type, then at the rights."""
    try:
        fd = syscalls.openat2(source)
    except OSError as error:
        return {"errno": error.errno, "at": _blocking(source, error.errno)}, None
    entry = mountinfo.by_id(mountinfo.read(), mountinfo.mount_id(fd))
    if entry is None or entry.fstype not in rules.FILE_SYSTEMS:
        return {"read": 0, "write": 0}, fd
    return _rights(fd, mode), fd


def _rights(fd: int, mode: Mode) -> owner.Answer:
    return {"read": syscalls.accessible(fd, READ), "write": 0 if mode == "ro" else syscalls.accessible(fd, os.W_OK)}


def _blocking(source: str, number: int | None) -> dict[str, Any] | None:
    """The first part of the path that stops the owner: its name, ids, mode, and whether it has an access list."""
    parts = source.split("/")[1:-1]
    for count in range(len(parts) + 1):
        path = "/" + "/".join(parts[:count])
        if number == errno.ENOENT and not os.path.lexists(path):
            return {"path": path}
        with contextlib.suppress(OSError):
            status = os.stat(path)
            if number == errno.ENOTDIR and not stat.S_ISDIR(status.st_mode):
                return {"path": path}
            if number == errno.EACCES and not os.access(path, os.X_OK, effective_ids=True):
                return {"path": path, "uid": status.st_uid, "gid": status.st_gid, **_mode(path, status)}
    return None


def _mode(path: str | int, status: os.stat_result) -> dict[str, Any]:
    acl = False
    with contextlib.suppress(OSError):
        acl = bool(os.getxattr(path, "system.posix_acl_access"))
    return {"mode": stat.S_IMODE(status.st_mode), "acl": acl}


def _walk_refusal(source: str, identity: Identity, answer: owner.Answer, until: float) -> Refusal:
    number, at = answer["errno"], answer["at"]
    if number == errno.ENOENT:
        return Refusal("missing", path=source)
    if number == errno.ENOTDIR:
        return Refusal("not-a-directory", path=source, detail=f": {at['path']} is a file" if at else "")
    if number == errno.ELOOP:
        return Refusal("not-a-directory", path=source, detail=": its links lead in a circle or into the kernel")
    if number == errno.ENAMETOOLONG:
        return Refusal("too-long", size=len(source.encode()), most="255 between two slashes")
    if number in (errno.EACCES, errno.EPERM):
        reason = "a directory above it cannot be entered"
        if at:
            reason = f"the directory {at['path']} cannot be entered by {identity.account} ({_whose(until=until, **at)})"
        return Refusal("not-readable", path=source, account=identity.account, reason=reason)
    return Refusal("not-readable", path=source, account=identity.account, reason=os.strerror(number))


def _whose(*, uid: int, gid: int, mode: int, acl: bool, until: float, path: str = "") -> str:
    user, group = names.owners(uid=uid, gid=gid, until=until)
    return f"owner {user}, group {group}, mode {mode:04o}{', with an access list' if acl else ''}"


def _whose_is(found: Found, status: os.stat_result, until: float) -> str:
    return _whose(uid=status.st_uid, gid=status.st_gid, until=until, **_mode(f"/proc/self/fd/{found.fd}", status))


def _pinned(source: str, fd: int) -> tuple[Found, os.stat_result]:
    """What the descriptor refers to; the file system is touched only if its type is allowed."""
    entry = mountinfo.by_id(mountinfo.read(), mountinfo.mount_id(fd))
    if entry is None:
        raise Refusal("filesystem", path=source, fstype="unknown", detail="", allowed=", ".join(rules.FILE_SYSTEMS))
    if entry.fstype not in rules.FILE_SYSTEMS:
        raise _file_system_refusal(source, entry)
    if "idmapped" in entry.options:
        raise _file_system_refusal(source, entry, " a second time (it is mounted with an id mapping)")
    path = os.readlink(f"/proc/self/fd/{fd}")
    if path != source:
        raise (
            Refusal("missing", path=source)
            if path.endswith(" (deleted)")
            else Refusal("link-elsewhere", path=source, real=path)
        )
    status = os.fstat(fd)
    found = Found(
        fd=fd,
        source=source,
        path=path,
        device=status.st_dev,
        inode=status.st_ino,
        fstype=entry.fstype,
        mount_device=entry.device,
    )
    return found, status


def _check_owner_of_shared(found: Found, status: os.stat_result, identity: Identity) -> None:
    if any(mountinfo.inside(found.path, place) for place in rules.SHARED_PLACES) and status.st_uid != identity.uid:
        reason = f"below /tmp and /var/tmp only what belongs to {identity.account} can be mounted"
        raise Refusal("refused-source", path=found.source, reason=reason)


def _check_protected(found: Found, trees: list[protected.Protected]) -> None:
    entry = mountinfo.by_id(mountinfo.read(), mountinfo.mount_id(found.fd))
    if entry is None:
        raise Refusal("missing", path=found.source)
    place = mountinfo.place(entry, found.path)
    reason = protected.conflict(trees, path=found.path, place=place, inode=(found.device, found.inode))
    if reason:
        raise Refusal("refused-source", path=found.source, reason=reason)


def _check_access(found: Found, status: os.stat_result, answer: owner.Answer, identity: Identity, until: float) -> None:
    if answer["read"]:
        whose = _whose_is(found, status, until)
        raise Refusal("not-readable", path=found.source, account=identity.account, reason=whose)
    if answer["write"] == errno.EROFS:
        reason = "its file system is mounted read-only"
        raise Refusal("not-writable", path=found.source, account=identity.account, reason=reason)
    if answer["write"]:
        whose = _whose_is(found, status, until)
        raise Refusal("not-writable", path=found.source, account=identity.account, reason=whose)


def _check_allowed_groups(found: Found, status: os.stat_result, mode: Mode, identity: Identity, until: float) -> None:
    """Once more with only the groups that an agent gets: without a group there may be fewer rights, or more."""
    if set(identity.allowed_gids) == set(identity.groups):
        return

    def task() -> tuple[owner.Answer, int | None]:
        return _rights(found.fd, mode), None

    groups = identity.allowed_gids
    with owner.run_as(task, uid=identity.uid, gid=identity.gid, groups=groups, until=until, keep=[found.fd]) as (
        answer,
        _,
    ):
        if answer["read"] or answer["write"]:
            code = "not-readable" if answer["read"] else "not-writable"
            reason = f"an agent does not get the group that allows it ({_whose_is(found, status, until)})"
            raise Refusal(code, path=found.source, account=identity.account, reason=reason)
