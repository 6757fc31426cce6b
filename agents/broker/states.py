"""States on disk: config.states/UID/KEY, each one directory of its owner's below parents that only root can enter."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from agents.broker import record, syscalls
from agents.broker.accounts import UID_MIN, Identity
from agents.broker.config import Config
from agents.broker.protocol import LAUNCH, Refusal

STATE_DIR = "/jackin/state"  # in the container
BENEATH = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_UID = re.compile(r"[1-9][0-9]{0,9}")
_TRASHED = re.compile(r"([1-9][0-9]{0,9})-([0-9a-f]{32})")


def path(config: Config, *, uid: int, key: str) -> Path:
    """Where the state `key` (32 hex digits) of the account `uid` lies."""
    if not LAUNCH.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a state")
    return config.states / str(uid) / key


@contextlib.contextmanager
def opened(config: Config, identity: Identity, key: str) -> Iterator[int]:
    """A descriptor (O_PATH) of the state's directory, which belongs to `identity`.

    Raises Refusal `no-state`, or `state-account` where the state was made for another Unix account.
    """
    with _opened(config, identity.uid, key) as fd:
        if fd is None:
            other = uid_of(config, key)
            if other is not None:
                raise Refusal("state-account", account=identity.account, uid=identity.uid, other=other)
            raise Refusal("no-state", state=key)
        yield fd


@contextlib.contextmanager
def opened_of(config: Config, uid: int, key: str) -> Iterator[int]:
    """The same for whoever's account `uid` is now, or was."""
    with _opened(config, uid, key) as fd:
        if fd is None:
            raise Refusal("no-state", state=key)
        yield fd


@contextlib.contextmanager
def _opened(config: Config, uid: int, key: str) -> Iterator[int | None]:
    top, fd = None, None
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            flags = os.O_PATH | os.O_DIRECTORY
            top = syscalls.openat2(str(config.states), flags=flags, resolve=syscalls.RESOLVE_NO_MAGICLINKS)
            place = path(config, uid=uid, key=key).relative_to(config.states)
            fd = syscalls.openat2(str(place), at=top, flags=flags, resolve=BENEATH | syscalls.RESOLVE_NO_XDEV)
            owner = os.fstat(fd).st_uid
            if owner != uid:
                raise Refusal("internal", what=f"opening the state {key}: its directory belongs to uid {owner}")
        yield fd
    finally:
        for each in (top, fd):
            if each is not None:
                os.close(each)


def make(config: Config, identity: Identity, key: str) -> bool:
    """Make the directory, 0700 and the owner's; False when it is there already.

    Raises Refusal `state-account` where another account has it. Root may make it, as nobody else can enter its
    parent: it appears under its name at once, complete.
    """
    other = uid_of(config, key)
    if other == identity.uid:
        return False
    if other is not None:
        raise Refusal("state-account", account=identity.account, uid=identity.uid, other=other)
    where = path(config, uid=identity.uid, key=key)
    with contextlib.suppress(FileExistsError):
        where.parent.mkdir(mode=0o700)
    new = where.with_name(f"{key}.new")  # what a crash left is empty
    with contextlib.suppress(FileNotFoundError):
        new.rmdir()
    new.mkdir(mode=0o700)
    os.chmod(new, 0o700)
    os.chown(new, identity.uid, identity.gid, follow_symlinks=False)
    os.rename(new, where)
    sync(where.parent)
    return True


def uid_of(config: Config, key: str) -> int | None:
    """The account that has the state `key`, or None."""
    for uid in _uids(config):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.lstat(path(config, uid=uid, key=key)).st_mode):
                return uid
    return None


def _uids(config: Config) -> list[int]:
    """Accounts that have states. Never root's, nor those of system accounts: nothing is ever done as these."""
    try:
        names = os.listdir(config.states)
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if _UID.fullmatch(name) and UID_MIN <= int(name) < 2**32 - 1)


def listed(config: Config) -> dict[str, list[str]]:
    """UID → keys of the states on disk."""
    found = {}
    for uid in _uids(config):
        if keys := sorted(name for name in os.listdir(config.states / str(uid)) if LAUNCH.fullmatch(name)):
            found[str(uid)] = keys
    return found


def trashed(config: Config) -> dict[str, int]:
    """Key → uid of what lies in the trash and is not deleted yet."""
    try:
        names = os.listdir(config.trash)
    except FileNotFoundError:
        return {}
    found = [match for name in names if (match := _TRASHED.fullmatch(name))]
    return {match[2]: int(match[1]) for match in found if int(match[1]) >= UID_MIN}


def trash(config: Config, uid: int, key: str) -> Path:
    """Where the state lies once it was thrown away."""
    return config.trash / f"{uid}-{key}"


def throw_away(config: Config, key: str) -> int | None:
    """Move the state into the trash; its uid, or None where neither place has it. Raises Refusal `state-in-use`."""
    for launch in record.staged(config):
        staged = record.find(launch, config)
        if staged is not None and staged.state_key == key:
            raise Refusal("state-in-use", state=key)
    if (uid := uid_of(config, key)) is None:
        return trashed(config).get(key)
    where, to = path(config, uid=uid, key=key), trash(config, uid, key)
    os.rename(where, to)
    sync(to.parent)
    sync(where.parent)
    return uid


def sync(directory: Path) -> None:
    """The entries of `directory` are on disk when this returns."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
