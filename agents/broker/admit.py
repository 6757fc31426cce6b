"""Letting a started container through its gate: only if it is what was staged, mount by mount."""

from __future__ import annotations

import logging
import os
import re
import select
import stat
import time

from agents.broker import counters, gate, mountinfo, mounts, ranges, record, syscalls
from agents.broker.config import Config
from agents.broker.mountinfo import Entry
from agents.broker.protocol import Refusal
from agents.broker.record import Pin, Record

log = logging.getLogger(__name__)

SECONDS_TO_EXEC = 3.0  # from `started`, as the engine says it, to our program

# What Docker itself mounts, beside the root: where, and which kinds of file system.
_KERNEL = {
    "/proc": {"proc", "tmpfs", "devtmpfs", "sysfs"},
    "/sys": {"sysfs", "tmpfs", "cgroup", "cgroup2", "mqueue"},
    "/dev": {"tmpfs", "devtmpfs", "devpts", "mqueue"},
}
_NAME_FILES = re.compile(r".*/containers/[0-9a-f]{64}/(hosts|hostname|resolv\.conf)")
_VOLUMES = re.compile(r".*/volumes/[0-9a-f]{64}/_data")  # anonymous ones, of an image's VOLUME


def admit(launch: str, *, pid: int, secrets: dict[str, str], config: Config) -> None:
    """Compare, lower the counters, hand over the secrets, open the gate, detach the staging.

    Raises Refusal `mismatch` or `ids-clash`: then the gate stays shut and the staging stays.
    """
    staged = record.load(launch, config)
    ranges.check()
    claude = config.base + config.claude
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise _mismatch("its process has ended") from None
    try:
        _wait_for_program(pid, pidfd)
        _check_process(pid, staged, config)
        entries = mountinfo.read(pid)
        _check_mounts(pid, staged, entries)
        _check_groups(pid, staged, config)
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check_alive(pidfd)  # until here the number meant the same process
            counters.bound(pid, namespace, entries=entries)
        finally:
            os.close(namespace)
        gate.hand_over(staged.secrets.staged, secrets, owner=claude)
        gate.open_gate(staged.gate.staged, pidfd)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise _mismatch(f"its process or a staged directory is gone ({error.strerror})") from error
    finally:
        os.close(pidfd)
    log.info("launch %s: process %d admitted with %d mounts", launch, pid, len(staged.mounts))
    mounts.release(launch, config)


def _mismatch(reason: str) -> Refusal:
    return Refusal("mismatch", reason=reason)


def _check_alive(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if poll.poll(0):
        raise _mismatch("its process has ended")


def _wait_for_program(pid: int, pidfd: int) -> None:
    """Wait until the process is past runc's own program; what it is then is looked at afterwards.

    The engine calls a container started when runc was told to go on: its last step, the exec, may still come.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    until = time.monotonic() + SECONDS_TO_EXEC
    while _before_exec(pid) and time.monotonic() < until:
        if poll.poll(20):
            raise _mismatch("its process has ended")


def _before_exec(pid: int) -> bool:
    """Whether it is runc that still prepares the process: no command line yet, or `runc init`."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    return not words[0] or words[1:] == [b"init", b""]


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        return dict(line.rstrip("\n").partition(":\t")[::2] for line in file)


def _check_process(pid: int, staged: Record, config: Config) -> None:
    """It is the first process of a remapped container, runs as the agent's user, and is our gate."""
    status = _status(pid)
    claude = str(config.base + config.claude)
    if set(status.get("Uid", "").split()) != {claude} or set(status.get("Gid", "").split()) != {claude}:
        raise _mismatch("its first process does not run as the agent's user")
    numbers = status.get("NSpid", "").split()
    if len(numbers) != 2 or numbers[1] != "1":
        raise _mismatch("the process is not the first one of a container")
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        if file.read().split() != ["0", str(config.base), str(config.count)]:
            raise _mismatch("its user namespace is not the one of the agents' engine")
    with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
        words = cmdline.read().split(b"\0")
    if words[:3] != [f"{gate.GATE_DIR}/busybox".encode(), b"sh", f"{gate.GATE_DIR}/gate".encode()]:
        raise _mismatch("its first process is not the gate")
    program, ours = os.stat(f"/proc/{pid}/exe"), os.stat(f"{staged.gate.staged}/busybox")
    if (program.st_dev, program.st_ino) != (ours.st_dev, ours.st_ino):
        raise _mismatch("its first process is not our program")


def _check_groups(pid: int, staged: Record, config: Config) -> None:
    """The owner's groups are there: an engine takes a group of the image that is *named* 2001 for the group 2001."""
    has = set(_status(pid).get("Groups", "").split())
    if not {str(config.base + group) for group in staged.groups} <= has:
        raise _mismatch("its first process lacks groups of the owner")


def _check_mounts(pid: int, staged: Record, entries: list[Entry]) -> None:
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        expected = {_check_mount(pin, entries, root, staged) for pin in staged.pins}
    finally:
        os.close(root)
    for entry in entries:
        if entry.id not in expected and not _of_docker(entry):
            raise _mismatch(f"there is an unexpected mount at {entry.point}")


def _check_mount(pin: Pin, entries: list[Entry], root: int, staged: Record) -> int:
    """Compare what the container shows at the pin's destination; returns the id of that mount."""
    where = pin.destination
    try:
        resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
        fd = syscalls.openat2(where, at=root, resolve=resolve)
    except OSError as error:
        raise _mismatch(f"{where} cannot be opened in it ({error.strerror})") from error
    try:
        entry = mountinfo.by_id(entries, mountinfo.mount_id(fd))
        if entry is None or entry.point != where:
            raise _mismatch(f"nothing is mounted at {where}")
        if entry.device != pin.mount_device:
            raise _mismatch(f"another file system is mounted at {where}")
        status = os.fstat(fd)
    finally:
        os.close(fd)
    if (status.st_dev, status.st_ino) != (pin.device, pin.inode) or not stat.S_ISDIR(status.st_mode):
        raise _mismatch(f"another directory is mounted at {where}")
    wanted = {pin.mode, "nosuid", "nodev"}
    wanted |= {"noexec"} if pin is staged.secrets else set()
    wanted |= {"idmapped"} if pin in staged.mapped else set()
    if lacking := wanted - entry.options:
        raise _mismatch(f"the mount at {where} lacks {', '.join(sorted(lacking))}")
    return entry.id


def _of_docker(entry: Entry) -> bool:
    """Whether the entry is one that Docker makes in every container; an id-mapped one never is."""
    if "idmapped" in entry.options:
        return False
    if entry.point == "/":
        return True  # whatever the engine's storage driver is
    for tree, kinds in _KERNEL.items():
        if mountinfo.inside(entry.point, tree):
            return entry.fstype in kinds
    if entry.point in {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}:
        return _NAME_FILES.fullmatch(entry.root) is not None
    return _VOLUMES.fullmatch(entry.root) is not None
