"""Finding and ending root's own long-running processes, also those that an earlier supervisor started."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A process with a handle on it: the handle never means another one, even if the number is used again."""

    pid: int
    pidfd: int
    argv: tuple[str, ...]

    def alive(self) -> bool:
        return not select.select([self.pidfd], [], [], 0)[0]

    def close(self) -> None:
        os.close(self.pidfd)


def find(*, program: str, argument: str) -> Found | None:
    """Root's process that runs `program` (name of the executable) with `argument` among its arguments."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            found = _matches(int(entry), program, argument)
            if found is not None:
                return found
    return None


def _matches(pid: int, program: str, argument: str) -> Found | None:
    place = Path("/proc") / str(pid)
    try:
        # What others' processes call themselves proves nothing: real root and the executable are looked at too.
        if place.stat().st_uid != 0 or _executable(place) != program:
            return None
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        argv = tuple((place / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0"))
        if argument in argv and place.stat().st_uid == 0 and _executable(place) == program:
            return Found(pid=pid, pidfd=pidfd, argv=argv)
    except OSError:
        pass
    os.close(pidfd)
    return None


def _executable(place: Path) -> str:
    return os.path.basename(os.readlink(place / "exe").removesuffix(" (deleted)"))


def end(found: Found, *, grace: float) -> bool:
    """SIGTERM, after `grace` seconds SIGKILL. Returns whether it went by itself. Reaps it if it is our child."""
    own = True
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        try:
            signal.pidfd_send_signal(found.pidfd, number)
        except ProcessLookupError:
            break
        if wait(found, seconds=seconds):
            break
        own = False
    reap(found.pid)
    return own


def wait(found: Found, *, seconds: float) -> bool:
    """Whether the process ended within `seconds`."""
    return bool(select.select([found.pidfd], [], [], seconds)[0])


def reap(pid: int) -> None:
    """Take the exit status of a child of ours; nothing happens for any other process."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def of_user(uid: int) -> list[int]:
    """All processes that run as `uid`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if (Path("/proc") / entry).stat().st_uid == uid:
                    found.append(int(entry))
            except OSError:
                continue
    return found


def end_all_of_user(uid: int) -> None:
    """Kill whatever an account that belongs to the service left running; root and real people are refused."""
    if not 0 < uid < 1000:
        raise ValueError(f"uid {uid} is no system account")
    limit = time.monotonic() + 5
    while (left := of_user(uid)) and time.monotonic() < limit:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
