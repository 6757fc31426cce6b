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

SECONDS_TO_ANSWER = 2.2  # looking, and ending a child that hangs: the answer is out within 3 s
SECONDS_TO_ACT = 12.0  # to mount, to admit (the engine starts the program meanwhile) and to release
MOST_PER_SHARE = 4
STREAM = ":stream"  # how the shares of those end that carry a whole state
MOST_STREAMS = 8  # at a time, one for an account: each holds a process and a pipe for minutes
MOST = 32  # running at a time, beside the first of each share
MOST_PROCESSES = 256  # running and hanging: the end of all patience


@dataclasses.dataclass(kw_only=True)
class Worker:
    """One forked process. Its group also holds the children it made as the owner; `share` is whose they are."""

    pid: int
    pidfd: int
    pipe: int
    share: str
    launch: str
    until: float
    late: bool = False
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
        """Why no worker may start now, as the beginning of a sentence, or an empty string.

        A share that has no worker always gets one: whatever others ask for, and whatever hangs of theirs. What
        hangs counts against its own share until it ends.
        """
        running = [worker.share for worker in self.running.values()]
        hanging = [*self.lingering.values()]
        mine = running.count(share) + hanging.count(share)
        if share.endswith(STREAM):
            return self._stream_refusal(mine, share=share, launch=launch)
        if mine >= MOST_PER_SHARE:
            hang = ", or hang" if share in hanging else ""
            return f"{MOST_PER_SHARE} requests of the account {share.partition(':')[0]} are being answered{hang}"
        if (mine and sum(not each.endswith(STREAM) for each in running) >= MOST) or len(running) + len(
            hanging
        ) >= MOST_PROCESSES:
            return "The broker is busy"
        if launch and any(worker.launch == launch for worker in self.running.values()):
            return "Another request for the same launch is being answered"
        return ""

    def _stream_refusal(self, mine: int, *, share: str, launch: str) -> str:
        if mine or any(worker.launch == launch for worker in self.running.values()):
            return f"Another state of the account {share.partition(':')[0]} is being carried"
        if sum(worker.share.endswith(STREAM) for worker in self.running.values()) >= MOST_STREAMS:
            return f"{MOST_STREAMS} states are being carried"
        return ""

    def start(
        self,
        task: Callable[[], dict[str, object]],
        *,
        share: str,
        launch: str,
        until: float,
        keep: frozenset[int] = frozenset(),
    ) -> Worker:
        """Fork a worker that writes the framed answer of `task` to a pipe; it is killed at the time `until`.

        Of the descriptors it has `keep`, and no other."""
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            _work(task, theirs, keep)
        os.close(theirs)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # the child does the same: whoever comes first
        os.set_blocking(ours, False)
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

    def next_deadline(self) -> float | None:
        """When the next worker is late."""
        return min((worker.until for worker in self.running.values() if not worker.late), default=None)

    def kill_late(self) -> list[Worker]:
        """Kill the groups of workers that are past their deadline; gives those that are late now.

        They are reaped as they end. One that hangs in the kernel keeps its place in its share.
        """
        now = time.monotonic()
        found = [worker for worker in self.running.values() if now > worker.until and not worker.late]
        for worker in found:
            log.warning("worker %d of %s took too long; killing it", worker.pid, worker.share)
            worker.late = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
        return found

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


def _work(task: Callable[[], dict[str, object]], pipe: int, keep: frozenset[int]) -> None:
    status = 1
    try:
        os.setpgid(0, 0)
        syscalls.die_with_parent(signal.SIGKILL)
        close_all_but({0, 1, 2, pipe, *keep})
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
