"""Work done in a forked child: as an account, root dropped for good, or as root; with a deadline and one answer."""

from __future__ import annotations

import array
import contextlib
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agents.broker import syscalls

SECONDS = 3.0  # within which a request that looks is answered or refused
SECONDS_TO_LOOK = 2.0  # of them; the rest is for ending a child and sending the answer, on a busy machine too
MOST_ANSWER = 256 * 1024  # 200 names as JSON: up to 12 bytes for each 4 of them

Answer = dict[str, Any]
Task = Callable[[], tuple[Answer, int | None]]


class Hangs(Exception):
    """The child did not answer in time."""


class Failed(Exception):
    """The child ended without an answer, or with an error that nobody expected."""


@contextlib.contextmanager
def run_as(
    task: Task, *, uid: int, gid: int, groups: Sequence[int], until: float, keep: Sequence[int] = ()
) -> Iterator[tuple[Answer, int | None]]:
    """Run `task` as uid, gid, groups in a child: no way back to root, no descriptor of ours but `keep`.

    Gives the task's answer and, where it gave one, a descriptor (closed afterwards). Raises Hangs at the time
    `until` (monotonic); a child that cannot be killed is left to the reaper.
    """

    def begin() -> None:
        _drop(uid=uid, gid=gid, groups=groups)

    with _run(task, begin, until=until, keep=keep) as found:
        yield found


@contextlib.contextmanager
def run(task: Task, *, until: float) -> Iterator[tuple[Answer, int | None]]:
    """The same as root, for what may hang although no file system of an account is touched."""
    with _run(task, _settle, until=until) as found:
        yield found


@contextlib.contextmanager
def _run(
    task: Task, begin: Callable[[], None], *, until: float, keep: Sequence[int] = ()
) -> Iterator[tuple[Answer, int | None]]:
    if time.monotonic() >= until:
        raise Hangs
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        _child(task, begin, theirs, keep=keep)
    theirs.close()
    try:
        answer, fd = _answer(ours, until)
    finally:
        ours.close()
        _end(pid)
    try:
        if "failed" in answer:
            raise Failed(str(answer["failed"]))
        yield answer, fd
    finally:
        if fd is not None:
            os.close(fd)


def _child(task: Task, begin: Callable[[], None], sock: socket.socket, *, keep: Sequence[int]) -> None:
    status = 1
    try:
        close_all_but({sock.fileno(), *keep})
        try:
            begin()
            answer, fd = task()
        except Exception as error:  # told by the parent
            answer, fd = {"failed": f"{type(error).__name__}: {error}"}, None
        body = json.dumps(answer).encode()
        fds = [] if fd is None else [fd]
        socket.send_fds(sock, [len(body).to_bytes(4, "big")], fds)
        sock.sendall(body)
        status = 0
    finally:
        os._exit(status)


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor of this (just forked) process but `kept`."""
    at = 0
    for fd in sorted(kept):
        if at < fd:  # Python 3.11 closes everything when asked for an empty range
            os.closerange(at, fd)
        at = fd + 1
    os.closerange(at, 2**31 - 1)


def _settle() -> None:
    """What every child does first."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    syscalls.make_undumpable()
    syscalls.die_with_parent(signal.SIGKILL)


def _drop(*, uid: int, gid: int, groups: Sequence[int]) -> None:
    _settle()
    os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    syscalls.make_undumpable()
    syscalls.forbid_new_privileges()
    syscalls.die_with_parent(signal.SIGKILL)
    if (
        os.getresuid() != (uid,) * 3
        or os.getresgid() != (gid,) * 3
        or set(os.getgroups()) - {gid} != set(groups) - {gid}
    ):
        raise PermissionError("the ids could not be dropped")
    if uid == 0 or _effective_capabilities():
        raise PermissionError("capabilities are left")


def _effective_capabilities() -> int:
    with open("/proc/thread-self/status", "rb") as file:  # as bytes: nothing is imported any more
        return next(int(line.split()[1], 16) for line in file if line.startswith(b"CapEff:"))


def _answer(sock: socket.socket, until: float) -> tuple[Answer, int | None]:
    fds: array.array[int] = array.array("i")
    data = bytearray()
    wanted = 4
    try:
        while len(data) < wanted:
            _wait(sock, until)
            piece, new, _, _ = socket.recv_fds(sock, 65536, 1)
            fds.extend(new)
            if not piece:
                raise Failed("the child ended without an answer")
            data += piece
            if len(data) >= 4:
                wanted = 4 + int.from_bytes(data[:4], "big")
                if wanted > MOST_ANSWER:
                    raise Failed("the child's answer is too long")
        answer = json.loads(bytes(data[4:]))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    for fd in fds:
        os.set_inheritable(fd, False)
    return answer, (fds[0] if fds else None)


def _wait(sock: socket.socket, until: float) -> None:
    left = until - time.monotonic()
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if left <= 0 or not poll.poll(left * 1000):
        raise Hangs


def _end(pid: int) -> None:
    """Kill and reap the child; one that hangs in the kernel is left behind (the server sees it by its group)."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if poll.poll(100):
            os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
