"""What may lie at the database's path: plain files of the two accounts that share it, and nothing else is opened."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from agents.host.instance import USER_RUN, USER_WEB

SIDE_FILES = ("", "-wal", "-shm", "-journal")
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
}


def owners() -> frozenset[int]:
    """The uids of the pages and of the runner."""
    return frozenset(_uids())


def _uids() -> Iterator[int]:
    for account in (USER_WEB, USER_RUN):
        with contextlib.suppress(KeyError):
            yield pwd.getpwnam(account).pw_uid


def problem(database: str | os.PathLike[str], *, allowed: Collection[int]) -> str:
    """Why `database` or one of SQLite's files beside it must not be opened, or an empty string; any may be missing.

    The account of the pages owns their directory. Whoever has taken it over can put a link there, and whoever opens it
    then makes files elsewhere, or a pipe, at which the next one waits for ever. Only looked at, never opened.
    """
    for suffix in SIDE_FILES:
        place = Path(f"{os.fspath(database)}{suffix}")
        try:
            found = os.lstat(place)
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"{place} cannot be looked at ({error.strerror})"
        if not stat.S_ISREG(found.st_mode):
            return f"{place} is {KINDS.get(stat.S_IFMT(found.st_mode), 'a device')}, not a plain file"
        if found.st_uid not in allowed:
            return f"{place} belongs to uid {found.st_uid}, neither to {USER_WEB} nor to {USER_RUN}"
    return ""
