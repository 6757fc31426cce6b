"""A real terminals process on sockets of the test's own, and a window onto it that speaks its frames."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from agents.terminals.protocol import FrameDecoder, bytes_frame, control_frame

ROOT = pathlib.Path(__file__).resolve().parents[2]
AGENT = "0123456789abcdef" * 2
PATIENCE = 20.0


class TerminalsProcess:
    """`python -m agents.terminals`; the listening sockets outlive it, as with the supervisor."""

    def __init__(self, place: pathlib.Path) -> None:
        self.feed_path, self.viewer_path = str(place / "feed.sock"), str(place / "terminals.sock")
        self._feed = _listen(self.feed_path, socket.SOCK_SEQPACKET)
        self._viewers = _listen(self.viewer_path, socket.SOCK_STREAM)
        self._windows: list[Window] = []
        self.start()

    def start(self) -> None:
        descriptors = (self._feed.fileno(), self._viewers.fileno())
        names = {"JACKIN_FD_FEED": str(descriptors[0]), "JACKIN_FD_TERMINALS": str(descriptors[1])}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agents.terminals"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **names},
            pass_fds=descriptors,
            stderr=subprocess.PIPE,
        )

    def window(self, **options: Any) -> Window:
        """A window onto it, closed with it."""
        self._windows.append(Window(self.viewer_path, **options))
        return self._windows[-1]

    def stop(self) -> str:
        """End it; returns its log."""
        self.process.terminate()
        _, log = self.process.communicate(timeout=PATIENCE)
        return log.decode()

    def memory(self) -> int:
        """Resident bytes."""
        return resident(self.process.pid)

    def close(self) -> None:
        for window in self._windows:
            window.close()
        if self.process.poll() is None:
            self.stop()
        self._feed.close()
        self._viewers.close()


def resident(pid: int) -> int:
    """Resident bytes of the process `pid`."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _listen(path: str, kind: socket.SocketKind) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(path)
    listener.listen(64)
    return listener


class Window:
    """A viewer's connection. `output` is what the screen was sent since the last `ready`; `controls` all of them."""

    def __init__(
        self,
        path: str,
        *,
        agent: str = AGENT,
        viewer: str = "alice",
        rows: int = 24,
        columns: int = 80,
        acknowledge: bool = True,
    ) -> None:
        self.output = bytearray()
        self.received = 0
        self.controls: list[dict[str, Any]] = []
        self.acknowledge = acknowledge
        self.closed = False
        self._decoder = FrameDecoder()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self.control(attach=agent, viewer=viewer, rows=rows, columns=columns)

    def control(self, **fields: Any) -> None:
        self._socket.sendall(control_frame(fields))

    def type(self, data: bytes) -> None:
        self._socket.sendall(bytes_frame(data))

    def send_raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self, *, seconds: float = PATIENCE) -> bool:
        """Read once; False if nothing came."""
        if self.closed or not select.select([self._socket], [], [], seconds)[0]:
            return False
        data = self._socket.recv(256 * 1024)
        self.closed = not data
        shown = 0
        for frame in self._decoder.feed(data):
            if isinstance(frame, bytes):
                self.output += frame
                self.received += len(frame)
                shown += len(frame)
            else:
                self.controls.append(frame)
                if "ready" in frame:
                    self.output.clear()
        if shown and self.acknowledge:
            self.control(ack=shown)
        return True

    def read_until(self, wanted: bytes) -> bytes:
        """Read until the output holds `wanted`."""
        self.wait(lambda: wanted in self.output, what=f"output {wanted!r}")
        return bytes(self.output)

    def expect(self, wanted: bytes) -> bytes:
        """Read until `wanted` comes; returns the output up to its end and keeps what follows."""
        looked = 0
        while (at := self.output.find(wanted, looked)) < 0:
            looked = max(0, len(self.output) - len(wanted))
            more = len(self.output)
            self.wait(lambda more=more: len(self.output) != more, what=f"output {wanted[:50]!r}")
        found = bytes(self.output[: at + len(wanted)])
        del self.output[: at + len(wanted)]
        return found

    def wait_for(self, **fields: Any) -> dict[str, Any]:
        """Read until a control holds `fields`; returns the first such control and forgets those up to it."""

        def found() -> int | None:
            matches = (i for i, control in enumerate(self.controls) if fields.items() <= control.items())
            return next(matches, None)

        self.wait(lambda: found() is not None, what=f"control {fields}")
        at = found()
        assert at is not None
        control = self.controls[at]
        del self.controls[: at + 1]
        return control

    def wait(self, condition: Any, *, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            left = end - time.monotonic()
            assert left > 0 and not self.closed, (  # noqa: PT018 - one story
                f"no {what}; closed: {self.closed}; controls: {self.controls}; output: {bytes(self.output[-500:])!r}"
            )
            self.read(seconds=left)

    def wait_closed(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.closed:
            assert time.monotonic() < end, "the connection stays open"
            with contextlib.suppress(ConnectionResetError):
                self.read(seconds=0.2)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def terminals_process(place: pathlib.Path) -> Iterator[TerminalsProcess]:
    """The process for the time of the block."""
    process = TerminalsProcess(place)
    try:
        yield process
    finally:
        process.close()
