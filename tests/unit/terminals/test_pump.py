"""When output leaves, and how long windows may hold an agent back: one pump in this process, its time set short."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from agents.terminals import pump as pump_module
from agents.terminals.protocol import FrameDecoder, Size
from agents.terminals.pump import Pump
from agents.terminals.viewer import CREDIT, Viewer

AGENT = "a" * 32
SIZE = Size(rows=24, columns=80)
LONG = 30.0


class Screen:
    """A connection that keeps what it is sent."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.controls: list[Mapping[str, Any]] = []
        self.stuck = 0

    def send(self, frame: bytes) -> None:
        for one in FrameDecoder().feed(frame):
            if isinstance(one, bytes):
                self.chunks.append(one)
            else:
                self.controls.append(one)

    def unsent(self) -> int:
        return self.stuck

    def close(self) -> None:
        """Nothing to close."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- a poll is what a test of timing wants
            await asyncio.sleep(0)


def viewer_on(pump: Pump) -> tuple[Viewer, Screen]:
    screen = Screen()
    viewer = Viewer(name="alice", size=SIZE, connection=screen)
    pump.attach(viewer)
    return viewer, screen


@pytest.fixture
async def program_and_pump() -> AsyncIterator[tuple[socket.socket, Pump]]:
    program, ours = socket.socketpair()
    program.setblocking(False)
    pump = Pump(AGENT, emit=lambda event: None)
    pump.use_stream(ours, size=SIZE, history=b"")
    yield program, pump
    pump.close()
    program.close()


async def test_the_first_output_of_a_quiet_stream_leaves_at_once_and_a_burst_is_gathered(
    program_and_pump: tuple[socket.socket, Pump], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, pump = program_and_pump
    monkeypatch.setattr(pump_module, "GATHER", 0.2)
    _, screen = viewer_on(pump)
    await asyncio.sleep(0.25)  # the stream is quiet
    program.send(b"first")
    await until(lambda: screen.chunks == [b"first"])
    for number in range(10):
        program.send(b"%d" % number)
        await asyncio.sleep(0)
    await until(lambda: len(screen.chunks) > 1)
    assert screen.chunks == [b"first", b"0123456789"]


async def test_a_full_burst_does_not_wait(
    program_and_pump: tuple[socket.socket, Pump], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, pump = program_and_pump
    _, screen = viewer_on(pump)
    monkeypatch.setattr(pump_module, "GATHER", LONG)
    program.send(bytes(40_000))
    await until(lambda: pump.ring.end == 40_000)
    program.send(bytes(40_000))
    await until(lambda: sum(map(len, screen.chunks)) == 80_000)


async def test_what_is_typed_is_echoed_at_once_in_a_burst_too(
    program_and_pump: tuple[socket.socket, Pump], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, pump = program_and_pump
    viewer, screen = viewer_on(pump)
    monkeypatch.setattr(pump_module, "GATHER", LONG)
    pump.type(viewer, b"x")
    assert program.recv(10) == b"x"
    program.send(b"x")
    await until(lambda: screen.chunks == [b"x"])


async def test_windows_that_show_nothing_hold_the_agent_back_for_a_while_only(
    program_and_pump: tuple[socket.socket, Pump], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, pump = program_and_pump
    monkeypatch.setattr(pump_module, "PATIENCE", 0.2)
    viewer, screen = viewer_on(pump)
    written = 0

    async def write(size: int) -> None:
        nonlocal written
        while written < size:
            try:
                written += program.send(bytes(64 * 1024))
            except BlockingIOError:
                await asyncio.sleep(0)

    await asyncio.wait_for(write(4 * CREDIT), 10)
    await until(lambda: pump.ring.end == written)
    assert sum(map(len, screen.chunks)) == CREDIT
    screen.controls.clear()
    pump.acknowledge(viewer, CREDIT)
    assert any("ready" in control for control in screen.controls), "it begins again with the latest output"
    assert viewer.position == pump.ring.end


async def test_a_connection_that_takes_nothing_counts_as_stalled(
    program_and_pump: tuple[socket.socket, Pump],
) -> None:
    program, pump = program_and_pump
    _, screen = viewer_on(pump)
    screen.stuck = CREDIT
    program.send(b"more")
    await until(lambda: pump.ring.end == 4)
    assert screen.chunks == []
