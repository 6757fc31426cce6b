"""Staging: the mounts of one launch, id-mapped, in a directory of root's until Docker has bound them.

The parent is 0700 root. dockerd and runc (1.1 and later) open bind sources before they enter the container's user
namespace, so this is enough (seen with Docker 20.10 and runc 1.1.5). The staging directory is a mount of its own,
which the engine's mount namespace shares: what is mounted here appears there, and goes there when it is unmounted.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
from pathlib import Path
from typing import Any

from agents.broker import gate, idmap, mountinfo, nesting, paths, protected, record, rules, states, syscalls
from agents.broker.accounts import Identity
from agents.broker.config import Config
from agents.broker.paths import Found
from agents.broker.protocol import Mode, Mount, Refusal
from agents.broker.record import Pin, Record

log = logging.getLogger(__name__)

_COMMON = syscalls.MS_NOSUID | syscalls.MS_NODEV
_ATTRIBUTES = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV


def check(mounts: tuple[Mount, ...], identity: Identity, config: Config, *, until: float) -> list[dict[str, Any]]:
    """One answer for each mount, in order: what was found, or why it is refused. Mounts nothing.

    All of them are looked at until the time `until` (monotonic) together.
    """
    with contextlib.ExitStack() as stack:
        found, refused = _look_at_all(mounts, identity, config, stack, until)
        return [refused[n].reply() if n in refused else found[n].told() for n in range(len(mounts))]


def _look_at_all(
    mounts: tuple[Mount, ...], identity: Identity, config: Config, stack: contextlib.ExitStack, until: float
) -> tuple[dict[int, Found], dict[int, Refusal]]:
    refused = rules.check_destinations(mounts)
    trees = protected.trees(config, mountinfo.read(), uid=identity.uid)
    found: dict[int, Found] = {}
    for index, mount in enumerate(mounts):
        try:
            found[index] = stack.enter_context(paths.look(mount, identity, trees, until=until))
        except Refusal as refusal:
            refused[index] = refusal.at(index)  # the source first: it is the first field
    good = {index: each for index, each in found.items() if index not in refused}
    refused |= nesting.check(mounts, good, identity, until=until)
    return found, refused


def stage(
    web_user: str,
    launch: str,
    mounts: tuple[Mount, ...],
    identity: Identity,
    config: Config,
    *,
    until: float,
    state: str = "",
) -> Record:
    """Open, map and mount everything for `launch`, or nothing. Raises Refusal with the mount's position.

    With `state`, the state of that key is staged, too.

    The sources are looked at until the time `until` (monotonic); mounting them touches no file of theirs.
    The same request again returns the same staging; one that lost its mounts meanwhile is made anew.
    """
    old = record.find(launch, config)
    if old is not None:
        if not old.matches(web_user, identity.uid, mounts, state):
            raise Refusal("conflict", launch=launch)
        if _complete(old):
            return old
    release(launch, config)
    with contextlib.ExitStack() as stack:
        found, refused = _look_at_all(mounts, identity, config, stack, until)
        if refused:
            raise refused[min(refused)]
        kept = _found_state(stack.enter_context(states.opened(config, identity, state)), state) if state else None
        try:
            made = _make(web_user, launch, mounts, found, identity, config, state=(state, kept))
            record.save(made, config)
        except BaseException:
            release(launch, config)
            raise
    return made


def _complete(old: Record) -> bool:
    points = {entry.point for entry in mountinfo.read()}
    return all(pin.staged in points for pin in old.pins)


def _make(
    web_user: str,
    launch: str,
    mounts: tuple[Mount, ...],
    found: dict[int, Found],
    identity: Identity,
    config: Config,
    *,
    state: tuple[str, Found | None],
) -> Record:
    top = record.directory(config, launch)
    top.mkdir(mode=0o700)
    syscalls.mount_tmpfs(str(top), name="jackin-stage", flags=_COMMON, options="mode=0700,size=64k,nr_inodes=256")
    claude = config.base + config.claude
    gate_pin = _own_tmpfs(top, "gate", gate.GATE_DIR, "ro", flags=0, options="mode=0700,size=4m,nr_inodes=16")
    gate.make(gate_pin.staged, busybox=config.busybox, owner=claude)
    options = f"mode=0700,uid={claude},gid={claude},size=1m,nr_inodes=16"
    secrets_pin = _own_tmpfs(top, "secrets", gate.SECRETS_DIR, "rw", flags=syscalls.MS_NOEXEC, options=options)
    gids = idmap.moved_gids(identity.gid, identity.allowed_gids, config.claude)
    namespace = idmap.user_namespace(
        idmap.id_map({identity.uid: config.claude}, base=config.base, count=config.count),
        idmap.id_map(gids, base=config.base, count=config.count),
    )
    try:
        pins = [_attach(top, found[index], mount, namespace) for index, mount in enumerate(mounts)]
        key, kept = state
        state_pin = None if kept is None else _attach(top, kept, _state_mount(kept), namespace)
    finally:
        os.close(namespace)
    # What was mounted below a source meanwhile would show what it hides.
    if late := nesting.check_submounts(mounts, found):
        raise next(iter(late.values()))
    return Record(
        launch=launch,
        web_user=web_user,
        account=identity.account,
        uid=identity.uid,
        groups=tuple(sorted(set(gids.values()) - {config.claude})),
        mounts=tuple(pins),
        gate=gate_pin,
        secrets=secrets_pin,
        state=state_pin,
        state_key=key,
    )


def _found_state(fd: int, key: str) -> Found:
    status = os.fstat(fd)
    name = f"the state {key}"
    return Found(fd=fd, source=name, path=name, device=status.st_dev, inode=status.st_ino, fstype="", mount_device="")


def _state_mount(kept: Found) -> Mount:
    return Mount(source=kept.source, destination=states.STATE_DIR, mode="rw")


def _own_tmpfs(top: Path, name: str, destination: str, mode: Mode, *, flags: int, options: str) -> Pin:
    target = _entry(top, name)
    syscalls.mount_tmpfs(target, name=f"jackin-{name}", flags=_COMMON | flags, options=options)
    return _pin(target, "", "", destination, mode)


def _attach(top: Path, found: Found, mount: Mount, namespace: int) -> Pin:
    """Clone the one mount under the pinned directory, map it, and move it to an entry of its own."""
    tree = syscalls.clone_mount(found.fd)
    try:
        read_only = syscalls.MOUNT_ATTR_RDONLY if mount.mode == "ro" else 0
        try:
            syscalls.mount_setattr(tree, on=_ATTRIBUTES | read_only, user_namespace=namespace)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP):
                raise
            allowed, detail = ", ".join(rules.FILE_SYSTEMS), " (the kernel refuses an id mapping there)"
            raise Refusal(
                "filesystem", path=found.source, fstype=found.fstype, detail=detail, allowed=allowed
            ) from error
        target = _entry(top, f"m-{secrets.token_hex(8)}")
        syscalls.move_mount(tree, target)
    finally:
        os.close(tree)
    pin = _pin(target, found.source, found.path, mount.destination, mount.mode)
    if (pin.device, pin.inode) != (found.device, found.inode):
        raise Refusal("internal", what=f"mounting {found.source}: another directory appeared")
    return pin


def _entry(top: Path, name: str) -> str:
    """An empty directory that nobody can enter: what Docker would bind, silently, if the mount on it were gone."""
    path = top / name
    path.mkdir(mode=0o000)
    return str(path)


def _pin(target: str, source: str, real_path: str, destination: str, mode: Mode) -> Pin:
    fd = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        entry = mountinfo.by_id(mountinfo.read(), mountinfo.mount_id(fd))
        if entry is None or entry.point != target:
            raise Refusal("internal", what=f"mounting at {target}")
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return Pin(
        source=source,
        real_path=real_path,
        destination=destination,
        mode=mode,
        staged=target,
        device=status.st_dev,
        inode=status.st_ino,
        mount_device=entry.device,
    )


def release(launch: str, config: Config) -> None:
    """Unmount and remove whatever is staged for `launch`; nothing is fine."""
    detach(launch, config)
    record.forget(launch, config)


def detach(launch: str, config: Config) -> None:
    """Unmount the staging directory with all below it; containers keep what they bound."""
    top = str(record.directory(config, launch))
    while any(entry.point == top for entry in mountinfo.read()):
        syscalls.detach(top)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(top)


def clean_up(config: Config) -> None:
    """At the broker's start: remove what a crash or a reboot left half made; whole stagings stay."""
    for launch in record.staged(config):
        try:
            left = record.find(launch, config)
            if left is not None and _complete(left):
                continue
        except (ValueError, KeyError, TypeError):
            log.warning("launch %s: its record cannot be read", launch)
        log.info("launch %s: removing what is left of its staging", launch)
        release(launch, config)
