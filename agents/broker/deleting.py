"""Deleting a tree that somebody hostile made and may still change, as its owner and a bounded time at once."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from pathlib import Path

from agents.broker import owner, states, syscalls
from agents.broker.config import Config
from agents.broker.protocol import Refusal

NO_GROUP = 65534
_HERE = states.BENEATH | syscalls.RESOLVE_NO_XDEV


def purge(config: Config, key: str, *, until: float) -> dict[str, object]:
    """Throw the state away, then delete of it what can be until the time `until` (monotonic).

    Gives done, and how many entries were removed. A state that is nowhere is done. Raises Refusal.
    """
    uid = states.throw_away(config, key)
    if uid is None:
        return {"done": True, "removed": 0}
    where = states.trash(config, uid, key)
    done, removed = delete_as(uid, where, until=until)
    if done:
        try:
            os.rmdir(where)  # its parent is root's alone: the name is what was opened
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            return {"done": False, "removed": removed}  # somebody kept a descriptor, and writes on
        states.sync(where.parent)
    return {"done": done, "removed": removed + done}


def delete_as(uid: int, where: Path, *, until: float) -> tuple[bool, int]:
    """Empty the directory `where` as the account `uid`; whether it is empty, and how many entries went.

    Everything there belongs to `uid`, so no group is needed. Raises Refusal `not-deleted`.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    fd = syscalls.openat2(str(where), flags=flags, resolve=syscalls.RESOLVE_NO_SYMLINKS)
    try:
        if os.fstat(fd).st_uid != uid:
            raise Refusal("internal", what=f"deleting {where}: it does not belong to uid {uid}")

        def task() -> tuple[owner.Answer, int | None]:
            return _empty(fd, until=until - 1.0), None

        with owner.run_as(task, uid=uid, gid=NO_GROUP, groups=(), until=until, keep=[fd]) as (answer, _):
            if answer["problem"] and not answer["removed"]:
                raise Refusal("not-deleted", reason=answer["problem"])
            return bool(answer["done"]), int(answer["removed"])
    except owner.Hangs:
        return False, 0  # what it did is done; the caller asks again
    finally:
        os.close(fd)


def _empty(top: int, *, until: float) -> owner.Answer:
    """In the child: take everything out of the directory `top` (O_PATH).

    Each directory that is not empty gives its own directories to `top` under new names, so that nothing is ever
    deeper than two levels below, however deep the tree was. Names are only ever looked at below a descriptor, and
    links are never followed.
    """
    counted = _Counted(until)
    readable = _readable(top)
    try:
        with contextlib.suppress(_TimeIsUp):
            while _once(readable, counted):
                pass
        empty = not _names(readable)  # what changed meanwhile is for the next time
    finally:
        os.close(readable)
    done = empty and not counted.problem
    return {"done": done, "removed": counted.removed, "problem": counted.problem}


class _TimeIsUp(Exception):
    pass


class _Counted:
    def __init__(self, until: float) -> None:
        self.until = until
        self.removed = 0
        self.problem = ""

    def check(self) -> None:
        if time.monotonic() > self.until:
            raise _TimeIsUp

    def note(self, error: OSError) -> None:
        self.problem = self.problem or (error.strerror or str(error.errno))


def _once(top: int, counted: _Counted) -> bool:
    """One turn over all entries of `top`; whether another may find more."""
    before = counted.removed
    found = False
    for name in _names(top):
        found = True
        counted.check()
        try:
            if not _removed(top, name, counted):
                _flatten(top, name, counted)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY):  # changed meanwhile
                counted.note(error)
    return found and counted.removed > before


def _names(fd: int) -> list[bytes]:
    # A descriptor of its own: listing moves the position in the directory.
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return [os.fsencode(name) for name in os.listdir(again)]
    finally:
        os.close(again)


def _removed(parent: int, name: bytes, counted: _Counted) -> bool:
    """Remove a file, a link or an empty directory; False for a directory with something in it."""
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
    counted.removed += 1
    return True


def _flatten(top: int, name: bytes, counted: _Counted) -> None:
    """Empty the directory `name` of `top`: its files go, its directories become entries of `top`; then remove it."""
    fd = _open_directory(top, name)
    try:
        for inner in _names(fd):
            counted.check()
            if not _removed(fd, inner, counted):
                _lift(fd, inner, top)
    finally:
        os.close(fd)
    _removed(top, name, counted)


def _lift(parent: int, name: bytes, top: int) -> None:
    """Move a directory up. The kernel wants to write its `..`: it needs the right to write to it."""
    new = f".{secrets.token_hex(12)}".encode()
    try:
        os.rename(name, new, src_dir_fd=parent, dst_dir_fd=top)
    except PermissionError:
        os.close(_open_directory(parent, name))
        os.rename(name, new, src_dir_fd=parent, dst_dir_fd=top)


def _open_directory(parent: int, name: bytes) -> int:
    """A readable descriptor of a directory that is really there, whatever its mode was."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    fd = syscalls.openat2(os.fsdecode(name), at=parent, flags=flags, resolve=_HERE)
    try:
        return _readable(fd)
    finally:
        os.close(fd)


def _readable(fd: int) -> int:
    """A readable descriptor of the directory `fd` (O_PATH), with all rights of its owner given back to them.

    By descriptor: a name may be a link to something else by now.
    """
    same = f"/proc/self/fd/{fd}"
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & 0o700 != 0o700:
        os.chmod(same, 0o700)
    return os.open(same, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
