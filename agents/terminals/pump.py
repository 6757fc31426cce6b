"""One pump owns one terminal: it reads the stream, remembers recent output, serves every window, writes what is typed.

The pump outlives its stream: when that ends (the engine was restarted, or the agent has ended) the windows wait until
the runner brings another one or drops the agent.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from agents.terminals.protocol import Size
from agents.terminals.ring import Ring
from agents.terminals.viewer import CHUNK, Viewer

log = logging.getLogger(__name__)

GATHER: Final = 0.002  # seconds that a burst is gathered before it leaves
HOLD: Final = 128 * 1024  # output that even the fastest window was not sent yet: the stream is not read further
PATIENCE: Final = 15.0  # seconds that windows which show nothing may hold the agent back
NUDGE: Final = 0.06  # seconds between the two sizes that make a program draw its screen again

Emit = Callable[[Mapping[str, Any]], None]


class Pump:
    """`emit` takes the events for the runner: `ended` and `resize`."""

    def __init__(self, agent: str, *, emit: Emit) -> None:
        self.agent = agent
        self.ring = Ring()
        self.viewers: list[Viewer] = []
        self.size: Size | None = None
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._stream: socket.socket | None = None
        self._reading = False
        self._writing = False
        self._input: deque[tuple[Viewer, memoryview]] = deque()
        self._gathered = 0
        self._served_at = 0.0
        self._gather_timer: asyncio.TimerHandle | None = None
        self._patience_timer: asyncio.TimerHandle | None = None
        self._nudge_timer: asyncio.TimerHandle | None = None
        self._leader: Viewer | None = None

    @property
    def live(self) -> bool:
        """Whether there is a stream."""
        return self._stream is not None

    # ── The stream ───────────────────────────────────────────────────────────────────────────────

    def use_stream(self, stream: socket.socket, *, size: Size, history: bytes) -> None:
        """Read this one from now on. `history` is the output before it, as the engine recorded it."""
        self._close_stream()
        stream.setblocking(False)
        self._stream = stream
        self.size = size
        missing = self.ring.missing_from(history) if history else b""
        if missing is None:  # the record does not meet what was seen: the record is right
            self.ring.append(history)
            self.ring.forget_before(self.ring.end - len(history))
            for viewer in self.viewers:
                viewer.position = -1
        else:
            self.ring.append(missing)
        for viewer in self.viewers:
            viewer.tell(waiting=False)
        self._serve()
        if self._leader is not None:
            self._fit(self._leader.size)

    def _readable(self) -> None:
        assert self._stream is not None  # noqa: S101 - the reader is removed with the stream
        try:
            data = self._stream.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            log.info("agent %s: the stream broke: %s", self.agent, error)
            data = b""
        if not data:
            self._end_stream()
            return
        self.ring.append(data)
        self._gathered += len(data)
        if self._gathered >= CHUNK:
            self._serve()
        elif self._gather_timer is None:
            wait = self._served_at + GATHER - self._loop.time()
            if wait <= 0:
                self._serve()  # the stream was quiet, or somebody typed
            else:
                self._gather_timer = self._loop.call_later(wait, self._serve)

    def _serve(self) -> None:
        """Send the windows what is new, then read on or hold the stream back."""
        if self._gather_timer is not None:
            self._gather_timer.cancel()
            self._gather_timer = None
        self._gathered = 0
        self._served_at = self._loop.time()
        for viewer in self.viewers:
            viewer.serve(self.ring)
        self._read_or_hold()

    def _read_or_hold(self) -> None:
        """Output waits in the program as long as every window is behind; one that keeps up is enough to go on."""
        held = self._held_back()
        if held and self._patience_timer is None:
            self._patience_timer = self._loop.call_later(PATIENCE, self._lose_patience)
        elif not held and self._patience_timer is not None:
            self._patience_timer.cancel()
            self._patience_timer = None
        wanted = self._stream is not None and not held
        if wanted and not self._reading:
            self._loop.add_reader(self._fileno(), self._readable)
        elif not wanted and self._reading:
            self._loop.remove_reader(self._fileno())
        self._reading = wanted

    def _held_back(self) -> bool:
        attentive = [viewer.position for viewer in self.viewers if not viewer.absent]
        return bool(attentive) and self.ring.end - max(attentive) > HOLD

    def _lose_patience(self) -> None:
        """A closed lid or a hidden tab must not stop the agent; its window catches up when it is back."""
        self._patience_timer = None
        for viewer in self.viewers:
            viewer.absent = True
        self._read_or_hold()

    def _end_stream(self) -> None:
        self._close_stream()
        self._serve()
        for viewer in self.viewers:
            viewer.tell(waiting=True)
        self._emit({"event": "ended", "agent": self.agent})

    def _close_stream(self) -> None:
        if self._stream is None:
            return
        if self._reading:
            self._loop.remove_reader(self._fileno())
        if self._writing:
            self._loop.remove_writer(self._fileno())
        self._reading = self._writing = False
        for viewer, data in self._input:
            viewer.taken(len(data))
        self._input.clear()
        self._stream.close()
        self._stream = None

    def _fileno(self) -> int:
        return -1 if self._stream is None else self._stream.fileno()

    # ── What is typed ────────────────────────────────────────────────────────────────────────────

    def type(self, viewer: Viewer, data: bytes) -> None:
        """Pass input on, in order. Raises ProtocolError when the window sends more than the terminal takes."""
        if self._stream is None or not data:
            return
        viewer.typed(len(data))
        self._served_at = 0.0  # what is typed is echoed at once, however much else comes
        self._lead(viewer)
        self._input.append((viewer, memoryview(data)))
        if not self._writing:
            self._write()

    def _write(self) -> None:
        """Write until the queue is empty or the stream is full."""
        while self._input and self._stream is not None:
            viewer, data = self._input[0]
            try:
                count = self._stream.send(data)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                log.info("agent %s: the stream takes no input: %s", self.agent, error)
                self._end_stream()
                return
            viewer.taken(count)
            if count < len(data):
                self._input[0] = (viewer, data[count:])
            else:
                self._input.popleft()
        wanted = bool(self._input)
        if wanted and not self._writing:
            self._loop.add_writer(self._fileno(), self._write)
        elif not wanted and self._writing:
            self._loop.remove_writer(self._fileno())
        self._writing = wanted

    # ── The windows ──────────────────────────────────────────────────────────────────────────────

    def attach(self, viewer: Viewer) -> None:
        """Show the recent output, then what comes; the newest window decides the size."""
        self.viewers.append(viewer)
        viewer.restart(self.ring)
        if self._stream is None:
            viewer.tell(waiting=True)
        self._leader = viewer
        self._announce()
        self._serve()
        self._fit(viewer.size)

    def detach(self, viewer: Viewer) -> None:
        """Forget a window, and what it typed that the terminal did not take yet stays typed."""
        self.viewers.remove(viewer)
        if self._leader is viewer:
            self._leader = self.viewers[-1] if self.viewers else None
            if self._leader is not None:
                self._resize(self._leader.size)
        self._announce()
        self._read_or_hold()

    def acknowledge(self, viewer: Viewer, count: int) -> None:
        """The window's screen has shown `count` more bytes."""
        viewer.acknowledged(count)
        if viewer.serve(self.ring):
            self._read_or_hold()

    def resize(self, viewer: Viewer, size: Size) -> None:
        """The window has another size now."""
        viewer.size = size
        self._lead(viewer)
        self._resize(size)

    def drop(self, reason: str) -> None:
        """The agent is gone: say so and close everything."""
        self._close_stream()
        self._serve()
        for viewer in self.viewers:
            viewer.tell(ended=reason)
        self.close()

    def close(self) -> None:
        """Let go of the stream and of every window."""
        self._close_stream()
        for timer in (self._gather_timer, self._patience_timer, self._nudge_timer):
            if timer is not None:
                timer.cancel()
        for viewer in self.viewers:
            viewer.close()
        self.viewers.clear()

    def _lead(self, viewer: Viewer) -> None:
        """Who typed last decides the size, and answers what programs ask of a terminal (two answers would be typed)."""
        if self._leader is not viewer:
            self._leader = viewer
            self._announce()
            self._resize(viewer.size)

    def _announce(self) -> None:
        for viewer in self.viewers:
            viewer.tell(viewers=len(self.viewers), answers=viewer is self._leader)

    # ── The size ─────────────────────────────────────────────────────────────────────────────────

    def _resize(self, size: Size) -> None:
        if self._nudge_timer is not None:
            self._nudge_timer.cancel()
            self._nudge_timer = None
        if self._stream is not None and size != self.size:
            self.size = size
            self._emit({"event": "resize", "agent": self.agent, "rows": size.rows, "columns": size.columns})

    def _fit(self, size: Size) -> None:
        """Give the terminal this size, and make its program draw again even if it has it already."""
        if self._stream is None or size != self.size:
            self._resize(size)
            return
        self._resize(Size(rows=size.rows - 1 if size.rows > 1 else 2, columns=size.columns))
        self._nudge_timer = self._loop.call_later(NUDGE, self._resize, size)
