"""The host's database of users and groups, asked in a child: it may be remote, slow, or never answer."""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import os
import pwd
import time
from pathlib import Path

from agents.broker import owner
from agents.broker.protocol import Refusal

PASSWD = Path("/etc/passwd")
SECONDS_FOR_A_MESSAGE = 0.5  # names make a refusal easier to read; the numbers will do


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """What the host says of an account. `group` is the name of the primary `gid`; `others` are (gid, name), sorted."""

    uid: int
    gid: int
    group: str
    home: str
    others: tuple[tuple[int, str], ...]


def account(name: str, *, until: float) -> Account | None:
    """The account as it is now, or None. Raises Refusal `name-service` at the time `until` (monotonic)."""

    def task() -> tuple[owner.Answer, int | None]:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return {"there": False}, None
        others = sorted(set(os.getgrouplist(name, entry.pw_gid)) - {entry.pw_gid})
        return {
            "there": True,
            "uid": entry.pw_uid,
            "gid": entry.pw_gid,
            "group": _group(entry.pw_gid),
            "home": entry.pw_dir,
            "others": [(gid, _group(gid)) for gid in others],
        }, None

    try:
        with owner.run(task, until=until) as (answer, _):
            if not answer.pop("there"):
                return None
            others = tuple((gid, group) for gid, group in answer.pop("others"))
            return Account(others=others, **answer)
    except owner.Hangs:
        raise Refusal("name-service", account=name, seconds=int(owner.SECONDS_TO_LOOK)) from None


def owners(*, uid: int, gid: int, until: float) -> tuple[str, str]:
    """Names of a user and a group for a message; the numbers where there is no name or no answer in time."""

    def task() -> tuple[owner.Answer, int | None]:
        user = str(uid)
        with contextlib.suppress(KeyError):
            user = pwd.getpwuid(uid).pw_name
        return {"user": user, "group": _group(gid)}, None

    until = min(until, time.monotonic() + SECONDS_FOR_A_MESSAGE)
    try:
        with owner.run(task, until=until) as (answer, _):
            return answer["user"], answer["group"]
    except (owner.Hangs, owner.Failed):
        return str(uid), str(gid)


def local_uid(name: str) -> int | None:
    """The uid of an account of the service itself: it is in the machine's own file, whatever else does not answer."""
    for line in PASSWD.read_text(errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[0] == name and fields[2].isdecimal():
            return int(fields[2])
    return None


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
