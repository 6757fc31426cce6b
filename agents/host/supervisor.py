"""Keeps the processes of the service running, and stops them in order."""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agents.host import processes
from agents.host.children import Child
from agents.host.logs import ChildLog
from agents.host.processes import Found
from agents.host.restarts import RestartLimiter
from agents.host.shell import HostError, say

GRACE = 10.0
ENGINE_LOOK = 2.0  # seconds between two looks at the engine
LAST_READS = 2  # of 64 KiB each: all that the pipe of a dead process holds


class Running:
    """One process of the service through all its lives."""

    def __init__(self, child: Child, log: ChildLog, pid_file: Path) -> None:
        self.child = child
        self.log = log
        self.limiter = RestartLimiter()
        self.found: Found | None = None
        self.due: float | None = 0.0  # when to start it; None while it runs
        self._pid_file = pid_file

    def start(self, listening: Mapping[str, socket.socket]) -> int:
        """Start it; returns the descriptor on which its output arrives."""
        inherited = {name: listening[key].fileno() for name, key in self.child.sockets.items()}
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        try:
            process = subprocess.Popen(
                self.child.argv,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=dict(self.child.env) | {name: str(number) for name, number in inherited.items()},
                cwd=self.child.cwd,
                pass_fds=tuple(inherited.values()),
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops them in order
                umask=0o077,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        process.returncode = 0  # the pidfd is the handle from here on
        self.found = Found(pid=process.pid, pidfd=os.pidfd_open(process.pid), argv=self.child.argv)
        self.due = None
        self._pid_file.write_text(f"{process.pid}\n")
        return reader

    def life(self) -> Found:
        """The handle of the process that runs now."""
        if self.found is None:
            raise RuntimeError(f"{self.child.name} does not run")
        return self.found

    def ended(self) -> int:
        """Take its exit status and forget this life."""
        found = self.life()
        _, status = os.waitpid(found.pid, 0)
        found.close()
        self.found = None
        self._pid_file.unlink(missing_ok=True)
        return os.waitstatus_to_exitcode(status)


class Supervisor:
    """Runs `children` until a signal or until one of them dies too often.

    `engine_dead` names a part of the engine that is gone (or ""), `engine_start` brings it back.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        listening: Mapping[str, socket.socket],
        logs: Path,
        pids: Path,
        engine_dead: Callable[[], str],
        engine_start: Callable[[], object],
    ) -> None:
        self._listening = listening
        self._parts = [Running(c, ChildLog(logs / f"{c.name}.log"), pids / f"{c.name}.pid") for c in children]
        self._engine_dead, self._engine_start = engine_dead, engine_start
        self._engine_limiter = RestartLimiter()
        self._selector = selectors.DefaultSelector()
        self._stop_reason: str | None = None
        self._wake, self._wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def request_stop(self, reason: str) -> None:
        """Make `run` return soon; may be called from a signal handler or another thread."""
        if self._stop_reason is None:
            self._stop_reason = reason
        os.write(self._wake_writer, b"\0")

    def run(self) -> str:
        """Start all and keep them going; returns why it ended. Call `stop` afterwards."""
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        look_at = time.monotonic() + ENGINE_LOOK
        while self._stop_reason is None:
            now = time.monotonic()
            self._start_due(now)
            if now >= look_at:
                self._watch_engine(now)
                look_at = now + ENGINE_LOOK
            times = [part.due for part in self._parts if part.due is not None] + [look_at]
            self._turn(max(0.0, min(times) - time.monotonic()))
        return self._stop_reason

    def _start_due(self, now: float) -> None:
        for part in self._parts:
            if part.due is not None and part.due <= now:
                reader = part.start(self._listening)
                self._selector.register(reader, selectors.EVENT_READ, part)
                self._selector.register(part.life().pidfd, selectors.EVENT_READ, part)

    def _turn(self, timeout: float) -> None:
        ready = self._selector.select(timeout)
        for key, _ in ready:  # output first: a dying process' last words belong before the news of its death
            if key.data is not None and not self._is_handle(key):
                self._read(key.fd, key.data)
            elif key.data is None:
                os.read(self._wake, 64)
        for key, _ in ready:
            if key.data is not None and self._is_handle(key):
                self._died(key.data)

    @staticmethod
    def _is_handle(key: selectors.SelectorKey) -> bool:
        return key.data.found is not None and key.fd == key.data.found.pidfd

    def _read(self, descriptor: int, part: Running) -> None:
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(descriptor)
            os.close(descriptor)
            return
        for line in part.log.feed(data):
            say(f"{part.child.name}: {line}")

    def _died(self, part: Running) -> None:
        self._selector.unregister(part.life().pidfd)
        code = part.ended()
        self._drain(part)
        self._let_go(part)
        now = time.monotonic()
        wait = part.limiter.died(now)
        if wait is None:
            say(f"{part.child.name} ended again ({_exit(code)}); five restarts within a minute did not help:")
            for line in part.log.last:
                say(f"  {line}")
            self.request_stop(f"{part.child.name} does not stay up")
            return
        say(f"{part.child.name} ended ({_exit(code)}); starting it again")
        part.due = now + wait

    def _drain(self, part: Running) -> None:
        """Read what is still in the pipe; a grandchild may hold the other end, so never wait for its end.

        Nor read on for as long as it writes: then nothing else would be looked after any more.
        """
        for key in list(self._selector.get_map().values()):
            if key.data is part:
                for _ in range(LAST_READS):
                    if key.fd not in self._selector.get_map() or not select.select([key.fd], [], [], 0)[0]:
                        break
                    self._read(key.fd, part)

    def _let_go(self, part: Running) -> None:
        """Close the pipe of a life that is over, whoever still holds its other end."""
        for key in list(self._selector.get_map().values()):
            if key.data is part:
                self._selector.unregister(key.fd)
                os.close(key.fd)

    def _watch_engine(self, now: float) -> None:
        dead = self._engine_dead()
        if not dead:
            return
        if self._engine_limiter.died(now) is None:
            self.request_stop(f"{dead} does not stay up")
            return
        say(f"{dead} ended; starting it again (agents go on)")
        try:
            self._engine_start()
        except HostError as error:
            say(str(error))

    def stop(self) -> None:
        """Stop all, the web tier first; SIGTERM, after 10 s SIGKILL. Idempotent."""
        for part in reversed(self._parts):
            part.due = None
            found = part.found
            if found is not None:
                self._end(part, found)
        for part in self._parts:
            part.log.close()
        for key in list(self._selector.get_map().values()):
            if key.fd != self._wake:
                os.close(key.fd)
        self._selector.close()

    def _end(self, part: Running, found: Found) -> None:
        """Its output is read while it stops: a full pipe would keep it from ending."""
        if found.pidfd in self._selector.get_map():
            self._selector.unregister(found.pidfd)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(found.pidfd, number)
            except ProcessLookupError:
                break
            limit = time.monotonic() + GRACE
            while found.alive() and time.monotonic() < limit:
                self._drain(part)
                processes.wait(found, seconds=0.05)
            if not found.alive():
                break
            say(f"{part.child.name} did not stop within {GRACE:.0f} s; ending it")
        part.ended()
        self._drain(part)


def _exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
