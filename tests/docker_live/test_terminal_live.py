"""A real container's terminal through the terminals process, next to the engine's own socket."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from agents.terminals.viewer import CREDIT
from tests.support.live_terminal import PROMPT, Live, expected_flood, flood, interrupt, live_terminal

pytestmark = pytest.mark.live
MEBI = 1024 * 1024


@pytest.fixture
def live(tmp_path: pathlib.Path, engine_socket: str) -> Iterator[Live]:
    with live_terminal(tmp_path, engine=engine_socket) as found:
        yield found


def test_typing_is_answered_and_a_second_window_sees_it(live: Live) -> None:
    one = live.window()
    one.type("echo h\u00e9llo-$((40+2))\n".encode())
    one.expect("h\u00e9llo-42\n".encode())
    two = live.process.window(agent=live.agent)
    two.expect("h\u00e9llo-42\n".encode())


def test_the_window_decides_the_size(live: Live) -> None:
    window = live.process.window(agent=live.agent, rows=31, columns=97)
    event = next(live.feed.events())
    assert (event["rows"], event["columns"]) == (31, 97)
    live.kit.engine.resize(live.container, rows=31, columns=97)
    window.type(b"stty size\n")
    window.expect(b"31 97\n")


def test_twenty_megabytes_come_whole_and_in_order(live: Live) -> None:
    digest, _ = flood(live.window())
    assert digest == expected_flood()


def test_an_interrupt_under_a_flood_arrives_soon(live: Live) -> None:
    with live.direct() as direct:
        alone = min(interrupt(direct) for _ in range(3))
    window = live.window()
    through = min(interrupt(window) for _ in range(3))
    assert through < 20 * alone + 0.25, f"{through:.3f} s, the engine's own socket {alone:.3f} s"


def test_a_window_that_shows_nothing_costs_little_memory_and_the_interrupt_still_works(live: Live) -> None:
    window = live.window()
    window.acknowledge = False
    before, received = live.process.memory(), window.received
    window.type(b"yes\n")
    window.wait(lambda: window.received - received == CREDIT, what="the whole credit")
    assert not window.read(seconds=2), "more than the credit"
    assert live.process.memory() - before < 4 * MEBI
    window.type(b"\x03")
    window.acknowledge = True
    window.control(ack=CREDIT)
    window.expect(PROMPT)


def test_a_stream_brought_again_shows_what_was_missed_once(live: Live) -> None:
    window = live.window()
    window.type(b"seq 1 5; echo before\n")
    window.expect(b"before\n" + PROMPT)
    live.process.stop()
    with live.direct() as direct:
        direct.type(b"echo mean''while\n")
        direct.expect(b"meanwhile\n" + PROMPT)
    live.process.start()
    live.feed.connect()
    live.push()
    again = live.process.window(agent=live.agent)
    seen = again.expect(b"meanwhile\n")
    assert seen.count(b"before\n") == seen.count(b"meanwhile\n") == 1
    again.type(b"echo aft''er\n")
    again.expect(b"after\n")
