"""The system users and groups of the service, and the range of ids that containers get."""

from __future__ import annotations

import dataclasses
import grp
import pwd
from collections.abc import Iterable
from pathlib import Path

from agents.host.instance import (
    GROUP_DB,
    REMAP_BASE,
    REMAP_COUNT,
    USER_BUILD,
    USER_DNS,
    USER_REMAP,
    USER_RUN,
    USER_TERM,
    USER_WEB,
)
from agents.host.shell import HostError, run

USERS = (USER_RUN, USER_WEB, USER_TERM, USER_DNS, USER_BUILD, USER_REMAP)
MEMBERS = {GROUP_DB: (USER_RUN, USER_WEB)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """One line of /etc/subuid or /etc/subgid."""

    owner: str
    first: int
    count: int

    def overlaps(self, other: Range) -> bool:
        return self.first < other.first + other.count and other.first < self.first + self.count


OURS = Range(owner=USER_REMAP, first=REMAP_BASE, count=REMAP_COUNT)


def parse_ranges(text: str) -> list[Range]:
    """The ranges of a subuid or subgid file; lines that are none are left out, as the tools do."""
    found = []
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
            found.append(Range(owner=parts[0], first=int(parts[1]), count=int(parts[2])))
    return found


def range_clash(ranges: Iterable[Range]) -> str:
    """Why our range cannot be used beside `ranges`, or an empty string."""
    for found in ranges:
        if found.owner == USER_REMAP and (found.first, found.count) != (OURS.first, OURS.count):
            return f"{USER_REMAP} has the range {found.first}:{found.count}, it needs {OURS.first}:{OURS.count}"
        if found.owner != USER_REMAP and found.overlaps(OURS):
            return f"the range {found.first}:{found.count} of {found.owner} overlaps {OURS.first}:{OURS.count}"
    return ""


def ensure_users() -> None:
    """Create the users and groups that are missing; give the remap user its range. Raises HostError on a clash."""
    for user in USERS:
        _ensure_user(user)
    for group, members in MEMBERS.items():
        _ensure_group(group, members)
    _ensure_range(Path("/etc/subuid"), "--add-subuids")
    _ensure_range(Path("/etc/subgid"), "--add-subgids")
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
    ranges = parse_ranges(file.read_text()) if file.exists() else []
    clash = range_clash(ranges)
    if clash:
        raise HostError(f"{file}: {clash}.", remedy=f"Change {file} so that {OURS.first}:{OURS.count} is free.")
    if not any(found.owner == USER_REMAP for found in ranges):
        run(["usermod", option, f"{OURS.first}-{OURS.first + OURS.count - 1}", USER_REMAP])


def _check_ids_are_free() -> None:
    """An account inside the range would own what containers write."""
    top = OURS.first + OURS.count
    taken = [f"user {entry.pw_name}" for entry in pwd.getpwall() if OURS.first <= entry.pw_uid < top]
    taken += [f"group {entry.gr_name}" for entry in grp.getgrall() if OURS.first <= entry.gr_gid < top]
    if taken:
        raise HostError(f"{taken[0]} has an id of the containers' range {OURS.first}:{OURS.count}.")
