"""The system users and groups of the service, and the range of ids that containers get."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterable
from pathlib import Path

from agents.broker import ranges
from agents.broker.ranges import OURS
from agents.host.instance import MEMBERS, USER_REMAP, USERS
from agents.host.shell import HostError, run


def ensure_users() -> None:
    """Create the users and groups that are missing; give the remap user its range. Raises HostError on a clash."""
    for user in USERS:
        _ensure_user(user)
    for group, members in MEMBERS.items():
        _ensure_group(group, members)
    _ensure_range(ranges.UIDS, "--add-subuids")
    _ensure_range(ranges.GIDS, "--add-subgids")
    _check_ids_are_free()


def _ensure_user(name: str) -> None:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        home = ["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
        run(["useradd", "--system", "--user-group", *home, name])
        return
    if not 0 < found.pw_uid < 1000:
        raise HostError(
            f"The account {name} exists with uid {found.pw_uid}; the service needs it as a system account.",
            remedy=f"Rename or remove the account {name}, then start again.",
        )


def _ensure_group(name: str, members: Iterable[str]) -> None:
    try:
        present = grp.getgrnam(name).gr_mem
    except KeyError:
        run(["groupadd", "--system", name])
        present = []
    for member in members:
        if member not in present:
            run(["usermod", "--append", "--groups", name, member])


def _ensure_range(file: Path, option: str) -> None:
    present = ranges.read(file)
    if clash := ranges.clash(present):
        raise HostError(f"{file}: {clash}.", remedy=f"Change {file} so that {OURS} is free.")
    if not any(found.owner == USER_REMAP for found in present):
        run(["usermod", option, f"{OURS.first}-{OURS.first + OURS.count - 1}", USER_REMAP])


def _check_ids_are_free() -> None:
    """An account inside the range would own what containers write."""
    top = OURS.first + OURS.count
    taken = [f"user {entry.pw_name}" for entry in pwd.getpwall() if OURS.first <= entry.pw_uid < top]
    taken += [f"group {entry.gr_name}" for entry in grp.getgrall() if OURS.first <= entry.gr_gid < top]
    if taken:
        raise HostError(f"{taken[0]} has an id of the containers' range {OURS.first}:{OURS.count}.")
