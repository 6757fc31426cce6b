"""Worker processes: one per request, in a process group of its own, with a deadline and a share per account."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import select
import signal
import time
from collections.abc import Callable

from agents.broker import syscalls, wire
from agents.broker.owner import close_all_but

log = logging.getLogger(__name__)

SECONDS = 14.0  # what a worker may take at most; the clients wait a little longer
MOST_PER_SHARE = 4
MOST = 32


@dataclasses.dataclass(kw_only=True)
class Worker:
    """One forked process. Its group also holds the children it made as the owner; `share` is whose they are."""

    pid: int
    pidfd: int
    pipe: int
    share: str
    launch: str
    until: float
    reply: bytearray = dataclasses.field(default_factory=bytearray)

    def ended(self, *, wait: float = 0) -> bool:
        """Whether the process has ended, after at most `wait` seconds; it is not reaped."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(wait * 1000))


class Workers:
    """All workers, and the groups of which some process could not be killed yet."""

    def __init__(self) -> None:
        self.running: dict[int, Worker] = {}
        self.lingering: dict[int, str] = {}

    def refusal(self, *, share: str, launch: str) -> str:
        """Why no worker may start now, as the beginning of a sentence, or an empty string."""
        shares = [worker.share for worker in self.running.values()] + list(self.lingering.values())
        if len(shares) >= MOST:
            return "The broker is busy"
        if shares.count(share) >= MOST_PER_SHARE:
            return f"{MOST_PER_SHARE} requests of the account {share.partition(':')[0]} are being answered"
        if launch and any(worker.launch == launch for worker in self.running.values()):
            return "Another request for the same launch is being answered"
        return ""

    def start(self, task: Callable[[], dict[str, object]], *, share: str, launch: str) -> Worker:
        """Fork a worker that writes the framed answer of `task` to a pipe."""
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            _work(task, theirs)
        os.close(theirs)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # the child does the same: whoever comes first
        os.set_blocking(ours, False)
        until = time.monotonic() + SECONDS
        worker = Worker(pid=pid, pidfd=os.pidfd_open(pid), pipe=ours, share=share, launch=launch, until=until)
        self.running[pid] = worker
        return worker

    def read(self, worker: Worker) -> bool:
        """Take what the worker has written so far; whether that was all."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(worker.pipe, 65536):
                worker.reply += piece
            return True
        return False

    def end(self, worker: Worker) -> bool:
        """Reap an ended worker and whatever is left of its group; whether it ended well."""
        self.read(worker)
        os.close(worker.pipe)
        os.close(worker.pidfd)
        _, status = os.waitpid(worker.pid, 0)
        del self.running[worker.pid]
        self.lingering[worker.pid] = worker.share
        self.reap()
        return status == 0

    def kill_late(self) -> None:
        """Kill the groups of workers that are past their deadline; they are reaped as they end."""
        now = time.monotonic()
        for worker in self.running.values():
            if now > worker.until:
                log.warning("worker %d of %s took too long; killing it", worker.pid, worker.share)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Kill and reap what ended workers left behind. As their subreaper, we inherited those processes."""
        for group in list(self.lingering):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            try:
                while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG) is not None:
                    pass
            except ChildProcessError:
                del self.lingering[group]

    def kill_all(self) -> None:
        """At the end: stop every worker and its children; what cannot be killed is left to init."""
        for worker in list(self.running.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            if worker.ended(wait=1):
                self.end(worker)


def _work(task: Callable[[], dict[str, object]], pipe: int) -> None:
    status = 1
    try:
        os.setpgid(0, 0)
        syscalls.die_with_parent(signal.SIGKILL)
        close_all_but({0, 1, 2, pipe})
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        with open(pipe, "wb") as file:
            file.write(wire.encode(task()))
        status = 0
    except BaseException:
        log.exception("a worker failed")
    finally:
        os._exit(status)
