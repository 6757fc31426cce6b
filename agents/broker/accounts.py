"""Who a Unix account is now, whether agents may run for it, and which web user it is linked to."""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agents.broker import names, ranges
from agents.broker.config import Config
from agents.broker.protocol import ACCOUNT, Refusal

UID_MIN = 1000
NOBODY = 65534
MOST_GROUPS = 128  # a mount's id mapping has at most 340 lines, two for each group
# Membership in one of these is power over the machine; an agent never gets it.
DENIED_GROUPS = frozenset(
    {"root", "docker", "sudo", "wheel", "adm", "disk", "shadow", "kvm", "lxd", "libvirt", "systemd-journal"}
    | {"incus", "incus-admin", "containerd", "podman", "libvirt-qemu", "nogroup", "nobody"}
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """An account as the host's user database knows it now. `groups` are all supplementary gids,
    `allowed` those (gid, name) that an agent gets; neither holds the primary `gid`."""

    account: str
    uid: int
    gid: int
    home: str
    groups: tuple[int, ...]
    allowed: tuple[tuple[int, str], ...]

    @property
    def allowed_gids(self) -> tuple[int, ...]:
        return tuple(gid for gid, _ in self.allowed)


def _refused(account: str, reason: str, remedy: str = "Ask the administrator for another account.") -> Refusal:
    return Refusal("account-refused", account=account, reason=reason, remedy=remedy)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def uid_min(lines: Iterable[str]) -> int:
    """The lowest uid of a person: UID_MIN of login.defs(5), but never below 1000."""
    for line in lines:
        fields = line.split()
        if len(fields) == 2 and fields[0] == "UID_MIN" and fields[1].isdecimal():
            return max(UID_MIN, int(fields[1]))
    return UID_MIN


def resolve(account: str, config: Config, *, until: float) -> Identity:
    """The account as it is now; the user database is asked until the time `until` (monotonic).

    Raises Refusal `account-refused` for root, system accounts, nobody and ids that belong to containers,
    `ids-clash` while somebody else has ids of our containers, `name-service` when there is no answer in time.
    """
    ranges.check()
    found = names.account(account, until=until)
    if found is None:
        raise _refused(account, "there is no such account", "Check the name with: getent passwd")
    return _checked(account, found, config)


def _checked(account: str, found: names.Account, config: Config) -> Identity:
    uid = found.uid
    if uid == 0:
        raise _refused(account, "it is root")
    if uid == NOBODY or account == "nobody":
        raise _refused(account, "it is nobody's account")
    least = uid_min(_lines(Path("/etc/login.defs")))
    if uid < least:
        raise _refused(account, f"its uid {uid} is below {least}, as those of system accounts are")
    if _container_id(uid, config) or any(each.holds(uid) for each in ranges.read(ranges.UIDS)):
        raise _refused(account, f"its uid {uid} lies in a range of subordinate ids ({ranges.UIDS})")
    named = {line.strip() for line in _lines(config.groups_file)}
    taken = ranges.read(ranges.GIDS)
    if reason := _group_refusal(found.gid, found.group, named=named, taken=taken, config=config):
        remedy = f"The administrator may allow the group by name in {config.groups_file}, or change it with usermod -g."
        raise _refused(account, f"its primary group {reason}", remedy)
    allowed = [
        (gid, name)
        for gid, name in found.others
        if not _group_refusal(gid, name, named=named, taken=taken, config=config)
    ]
    return Identity(
        account=account,
        uid=uid,
        gid=found.gid,
        home=found.home,
        groups=tuple(gid for gid, _ in found.others),
        allowed=tuple(allowed[:MOST_GROUPS]),
    )


def _container_id(number: int, config: Config) -> bool:
    return config.base <= number < config.base + config.count


def _group_refusal(gid: int, name: str, *, named: set[str], taken: Iterable[ranges.Range], config: Config) -> str:
    """Why agents do not get the group, or an empty string."""
    if gid == 0 or _container_id(gid, config) or any(each.holds(gid) for each in taken):
        return f"{name} (gid {gid}) is never given to agents"
    if name in named:
        return ""
    if gid < UID_MIN or gid == NOBODY:
        return f"{name} (gid {gid}) is a system group"
    return f"{name} gives power over the machine" if name in DENIED_GROUPS else ""


def linked(web_user: str, config: Config) -> dict[str, Any]:
    """The link of `web_user`: {web_user, account, uid, linked_at, how}. Raises Refusal `not-linked`."""
    for link in read_links(config):
        if link["web_user"] == web_user:
            return link
    raise Refusal("not-linked", web_user=web_user)


def identity(web_user: str, config: Config, *, until: float) -> Identity:
    """The account linked to `web_user`, as it is now; asked as `resolve` asks. Raises Refusal."""
    link = linked(web_user, config)
    account = str(link["account"])
    ranges.check()
    found = names.account(account, until=until)
    if found is None:
        raise Refusal("account-changed", account=account, reason="it does not exist any more")
    if found.uid != link["uid"]:
        raise Refusal("account-changed", account=account, reason=f"its uid was {link['uid']} and is {found.uid} now")
    return _checked(account, found, config)


def read_links(config: Config) -> list[dict[str, Any]]:
    """All links. A file that is no list of links is an error, never an empty list."""
    try:
        content = config.links_file.read_bytes()
    except FileNotFoundError:
        return []
    links = json.loads(content)["links"]
    keys = {"web_user", "account", "uid", "linked_at", "how"}
    if not isinstance(links, list) or any(set(link) != keys or type(link["uid"]) is not int for link in links):
        raise ValueError(f"{config.links_file} does not hold links")
    return links


def link(web_user: str, account: str, config: Config, *, how: str, until: float, alone: bool = False) -> dict[str, Any]:
    """Link `web_user` to `account` (replacing an older link) and return the link. Raises Refusal.

    `alone` refuses an account that somebody else is linked to (`account-taken`).
    """
    if not ACCOUNT.fullmatch(account):
        raise _refused(account, "this is no name of an account")
    found = resolve(account, config, until=until)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    made = {"web_user": web_user, "account": account, "uid": found.uid, "linked_at": now, "how": how}
    with _Locked(config):
        others = [each for each in read_links(config) if each["web_user"] != web_user]
        if alone and any(found.uid == each["uid"] or account == each["account"] for each in others):
            raise Refusal("account-taken", account=account, web_user=web_user)
        _write_links([*others, made], config)
    return made


def unlink(web_user: str, config: Config) -> bool:
    """Remove the link of `web_user`; whether there was one."""
    with _Locked(config):
        links = read_links(config)
        left = [each for each in links if each["web_user"] != web_user]
        if len(left) != len(links):
            _write_links(left, config)
    return len(left) != len(links)


class _Locked:
    """Two changes of the links file never overlap, whichever process makes them."""

    def __init__(self, config: Config) -> None:
        self._path = config.keys / "links.lock"

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _write_links(links: list[dict[str, Any]], config: Config) -> None:
    body = json.dumps({"v": 1, "links": links}, indent=1, ensure_ascii=False) + "\n"
    write_file(config.links_file, body.encode())


def write_file(path: Path, body: bytes) -> None:
    """Write `path` at once and for good: 0600, replaced atomically, on disk when this returns."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(body)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(new, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
