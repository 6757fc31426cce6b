"""A shell in a real container, seen through the engine's own socket and through the terminals process."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import Protocol

from agents.engine.feed_client import FeedClient
from tests.support.engine_kit import RealKit, read_until, real_kit
from tests.support.terminals import TerminalsProcess, Window, terminals_process

PROMPT = b"READY> "
SHELL = "stty -echo -onlcr; PS1='READY> ' exec bash --norc --noprofile --noediting"
FLOOD = b"seq -w 0 2499999 | cat; echo the-end\n"  # 20,000,000 bytes that differ everywhere
FLOOD_SIZE = 2_500_000 * 8


class Terminal(Protocol):
    """A way to the shell. `expect` reads until something comes and keeps what follows."""

    def type(self, data: bytes) -> None: ...

    def expect(self, wanted: bytes) -> bytes: ...


class Direct:
    """The engine's own socket, without anything of ours: what the rest is compared with."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self._seen = bytearray()

    def type(self, data: bytes) -> None:
        self.stream.sendall(data)

    def expect(self, wanted: bytes) -> bytes:
        self.stream.settimeout(60)
        looked = 0
        while (at := self._seen.find(wanted, looked)) < 0:
            looked = max(0, len(self._seen) - len(wanted))
            piece = self.stream.recv(65536)
            assert piece, "the stream ended"
            self._seen += piece
        found = bytes(self._seen[: at + len(wanted)])
        del self._seen[: at + len(wanted)]
        return found


class Live:
    """One container's shell, the terminals process that holds its stream, and a runner's connection that resizes."""

    def __init__(self, kit: RealKit, process: TerminalsProcess, feed: FeedClient) -> None:
        self.kit, self.process, self.feed = kit, process, feed
        spec = kit.launch_spec(script=SHELL)
        self.agent = spec.agent
        self.container = kit.engine.create_container(spec)
        with kit.engine.attach(self.container) as stream:
            kit.engine.start(self.container)
            kit.engine.resize(self.container, rows=24, columns=80)
            kit.open_gate(spec)
            read_until(stream, PROMPT)

    @contextlib.contextmanager
    def direct(self) -> Iterator[Direct]:
        with self.kit.engine.attach(self.container) as stream:
            yield Direct(stream)

    def push(self) -> None:
        """Hand the stream to the terminals process, as the runner does."""
        history = self.kit.engine.logs(self.container, most=512 * 1024)
        self.feed.push(self.agent, self.kit.engine.attach(self.container), 24, 80, history)

    def window(self) -> Window:
        """A window that has shown the prompt."""
        window = self.process.window(agent=self.agent)
        window.type(b"\n")  # the engine's record does not hold the unfinished line that the prompt is
        window.expect(PROMPT)
        return window


@contextlib.contextmanager
def live_terminal(place: pathlib.Path, *, engine: str) -> Iterator[Live]:
    """A shell on the engine behind the socket `engine`, with its stream in the terminals process."""
    with real_kit(engine) as kit, terminals_process(place) as process:
        feed = FeedClient(process.feed_path)
        feed.connect()
        try:
            live = Live(kit, process, feed)
            live.push()
            yield live
        finally:
            feed.close()


def expected_flood() -> str:
    """The digest of what FLOOD prints."""
    whole = b"".join(b"%07d\n" % number for number in range(2_500_000))
    assert len(whole) == FLOOD_SIZE
    return hashlib.sha256(whole).hexdigest()


def flood(terminal: Terminal) -> tuple[str, float]:
    """Print FLOOD; the digest of what came, and the seconds that it took."""
    began = time.perf_counter()
    terminal.type(FLOOD)
    seen = terminal.expect(b"the-end\n")
    took = time.perf_counter() - began
    terminal.expect(PROMPT)
    return hashlib.sha256(seen.removesuffix(b"the-end\n")).hexdigest(), took


def echo(terminal: Terminal, *, times: int) -> list[float]:
    """Seconds from a key to its echo (`cat` on a terminal that echoes), each time."""
    terminal.type(b"stty echo; echo rea''dy; cat\n")
    terminal.expect(b"ready\n")
    found = []
    for number in range(times):
        key = b"%d" % (number % 10)
        began = time.perf_counter()
        terminal.type(key)
        terminal.expect(key)
        found.append(time.perf_counter() - began)
    terminal.type(b"\x03")
    terminal.expect(PROMPT)
    terminal.type(b"stty -echo\n")
    terminal.expect(PROMPT)
    return found


def interrupt(terminal: Terminal) -> float:
    """Seconds from ^C to the prompt, while a MB has been flooding.

    In lines of 1000 bytes: with the two of a plain `yes` the engine's log holds the terminal up, for a second at times.
    """
    lines = (b"0" * 998 + b"7\n") * 50
    terminal.type(b"yes $(printf %0999d 7)\n")
    for _ in range(20):
        terminal.expect(lines)
    began = time.perf_counter()
    terminal.type(b"\x03")
    terminal.expect(PROMPT)
    return time.perf_counter() - began
