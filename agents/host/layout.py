"""The table of our directories: made once, then checked exactly at every start."""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from agents.host import database_file
from agents.host.instance import GROUP_DB, USER_ARCH, USER_RUN, USER_WEB, Instance
from agents.host.shell import HostError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Directory:
    """One line of the table: who owns `path`, and its exact mode.

    `formerly` is the mode that an earlier release gave it; what needs the new one sets it.
    """

    path: Path
    owner: str = "root"
    group: str = "root"
    mode: int = 0o700
    formerly: int | None = None


def table(instance: Instance) -> tuple[Directory, ...]:
    """All directories below /var/lib and /var/log, parents first."""
    return (
        Directory(path=instance.data, mode=0o711),
        Directory(path=instance.engine_dir, formerly=0o711),  # open in the engine's own mount namespace only
        Directory(path=instance.run_root, group=USER_RUN, mode=0o750),
        Directory(path=instance.run_web, group=USER_WEB, mode=0o750),
        Directory(path=instance.states),
        Directory(path=instance.snapshots, owner=USER_ARCH, group=USER_ARCH),
        Directory(path=instance.stage),
        Directory(path=instance.keys),
        Directory(path=instance.trash),
        Directory(path=instance.host_dir),
        Directory(path=instance.web, owner=USER_WEB, group=GROUP_DB, mode=0o2770),
        Directory(path=instance.logs.parent),
        Directory(path=instance.logs),
    )


def code_table(instance: Instance) -> tuple[Directory, ...]:
    """The root-owned places of our code; nothing in them is secret."""
    return (
        Directory(path=instance.code.parent, mode=0o755),
        Directory(path=instance.code, mode=0o755),
        *(Directory(path=instance.code / name, mode=0o755) for name in ("releases", "venvs", "frontends", "work")),
    )


def ensure(directories: Iterable[Directory]) -> None:
    """Make what is missing, check what is there. Raises HostError naming the first that is not as it must be."""
    for directory in directories:
        check_chain(directory.path.parent)
        try:
            os.mkdir(directory.path, 0o700)
        except FileExistsError:
            check(directory)
            continue
        os.chown(directory.path, *_ids(directory), follow_symlinks=False)
        os.chmod(directory.path, directory.mode)


def check(directory: Directory) -> None:
    """Raises HostError unless `directory` is a real directory of exactly this owner, group and mode."""
    path, found = directory.path, os.lstat(directory.path)
    uid, gid = _ids(directory)
    wanted = f"{directory.owner}:{directory.group} {directory.mode:04o}"
    if not stat.S_ISDIR(found.st_mode):
        raise HostError(f"{path} must be a directory, it is {_kind(found.st_mode)}.", remedy=f"Move {path} away.")
    mode = stat.S_IMODE(found.st_mode)
    if (found.st_uid, found.st_gid) != (uid, gid) or mode not in {directory.mode, directory.formerly}:
        raise HostError(
            f"{path} belongs to {found.st_uid}:{found.st_gid} with mode {mode:04o}; it must be {wanted}.",
            remedy=f"Look who changed it, then: chown {directory.owner}:{directory.group} {path}"
            f" && chmod {directory.mode:04o} {path}",
        )


def check_database(instance: Instance) -> None:
    """Raises HostError unless the database, where there is one, is a plain file of the accounts that share it."""
    if problem := database_file.problem(instance.database, allowed=database_file.owners()):
        raise HostError(
            f"The database is not used: {problem}.",
            remedy=f"Only {USER_WEB} could put it there. Find out who did, move it out of {instance.web}, start again.",
        )


def check_chain(path: Path) -> None:
    """Raises HostError unless only root can write to `path` and to each directory above it, up to /."""
    for place in (path, *path.parents):
        problem = writable_by_others(place)
        if problem:
            raise HostError(
                f"{place} {problem}, but root runs or keeps things below it.",
                remedy=f"chown root:root {place} && chmod go-w {place}",
            )


def is_safe(path: Path) -> bool:
    """Whether only root can write to `path` and to everything above it."""
    return not any(writable_by_others(place) for place in (path, *path.parents))


def writable_by_others(path: Path) -> str:
    """Why somebody else than root could change the entries of `path`, or an empty string."""
    try:
        found = os.lstat(path)
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if not stat.S_ISDIR(found.st_mode):
        return f"is {_kind(found.st_mode)}, not a directory"
    if found.st_uid != 0:
        return f"belongs to uid {found.st_uid}"
    # No exception for the sticky bit: a name that does not exist yet can be taken by anybody.
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    return "has an access list" if _has_acl(path) else ""


def _has_acl(path: Path) -> bool:
    try:
        return any(name.startswith("system.posix_acl") for name in os.listxattr(path, follow_symlinks=False))
    except OSError:
        return False


def _ids(directory: Directory) -> tuple[int, int]:
    return pwd.getpwnam(directory.owner).pw_uid, grp.getgrnam(directory.group).gr_gid


def _kind(mode: int) -> str:
    return "a symbolic link" if stat.S_ISLNK(mode) else "something else"
