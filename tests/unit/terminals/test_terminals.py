"""The process as a whole: streams by descriptor, windows by socket, over its whole life."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading

import pytest

from agents.engine.feed_client import FeedClient, FeedLost
from agents.terminals.server import MOST_OF_ONE
from agents.terminals.viewer import CREDIT
from tests.support.terminals import AGENT, TerminalsProcess

Tty = tuple[socket.socket, socket.socket]
MEBI = 1024 * 1024


def flood(program: socket.socket, size: int) -> tuple[threading.Thread, str]:
    """Write `size` bytes in pieces of all sizes from a thread; returns it and their digest."""
    data = random.Random(7).randbytes(MEBI) * (size // MEBI)
    thread = threading.Thread(target=program.sendall, args=(data,), daemon=True)
    thread.start()
    return thread, hashlib.sha256(data).hexdigest()


def test_types_and_answers(terminals: TerminalsProcess, feed: FeedClient, tty: Tty) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80)
    window = terminals.window()
    assert window.wait_for(ready=True)["replay"] == 0
    window.type(b"ls\r")
    assert program.recv(100) == b"ls\r"
    program.sendall(b"file\r\n")
    window.read_until(b"file\r\n")


def test_a_window_that_opens_later_sees_what_was_and_a_redraw_is_asked_for(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty
) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80, b"before\r\n")
    program.sendall(b"first\r\n")
    one = terminals.window()
    one.read_until(b"before\r\nfirst\r\n")
    one.close()
    events = feed.events()
    sizes = [next(events) for _ in range(2)]
    assert [(event["rows"], event["columns"]) for event in sizes] == [(23, 80), (24, 80)]
    other = terminals.window(rows=50, columns=120)
    other.read_until(b"before\r\nfirst\r\n")
    assert next(events) == {"event": "resize", "agent": AGENT, "rows": 50, "columns": 120}


def test_a_window_may_come_before_the_stream(terminals: TerminalsProcess, feed: FeedClient, tty: Tty) -> None:
    window = terminals.window()
    window.wait_for(waiting=True)
    feed.push(AGENT, tty[1], 24, 80)
    window.wait_for(waiting=False)
    tty[0].sendall(b"hello")
    window.read_until(b"hello")


def test_twenty_megabytes_arrive_whole_and_in_order(terminals: TerminalsProcess, feed: FeedClient, tty: Tty) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80)
    window = terminals.window()
    window.wait_for(ready=True)
    _, digest = flood(program, 20 * MEBI)
    window.wait(lambda: len(window.output) == 20 * MEBI, what="20 MiB")
    assert hashlib.sha256(window.output).hexdigest() == digest


def test_a_window_that_shows_nothing_holds_the_program_back(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty
) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80)
    window = terminals.window(acknowledge=False)
    window.wait_for(ready=True)
    before = terminals.memory()
    writer, _ = flood(program, 20 * MEBI)
    window.wait(lambda: window.received == CREDIT, what="the whole credit")
    assert not window.read(seconds=0.5), "more than the credit was sent"
    assert writer.is_alive(), "the program was not held back"
    assert terminals.memory() - before < 4 * MEBI
    window.acknowledge = True
    window.control(ack=CREDIT)
    window.wait(lambda: len(window.output) == 20 * MEBI, what="the rest")


def test_one_stalled_window_does_not_hold_the_other_and_skips_ahead(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty
) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80)
    stalled = terminals.window(acknowledge=False)
    stalled.wait_for(ready=True)
    good = terminals.window()
    good.wait_for(ready=True)
    before = terminals.memory()
    _, digest = flood(program, 20 * MEBI)
    good.wait(lambda: len(good.output) == 20 * MEBI, what="20 MiB")
    assert hashlib.sha256(good.output).hexdigest() == digest
    assert terminals.memory() - before < 4 * MEBI
    stalled.wait(lambda: stalled.received == CREDIT, what="its credit")
    stalled.acknowledge = True
    stalled.control(ack=CREDIT)
    again = stalled.wait_for(ready=True)
    stalled.wait(lambda: len(stalled.output) == again["replay"], what="the replay")
    assert good.output.endswith(stalled.output)
    assert len(stalled.output) > 100 * 1024


def test_output_without_a_window_is_read_on(terminals: TerminalsProcess, feed: FeedClient, tty: Tty) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80)
    writer, _ = flood(program, 3 * MEBI)
    writer.join(20)
    assert not writer.is_alive()
    program.sendall(b"\nthe end")
    window = terminals.window()
    assert window.wait_for(ready=True)["replay"] <= 512 * 1024
    window.read_until(b"\nthe end")


def test_another_stream_goes_on_where_the_first_one_ended(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty
) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80)
    window = terminals.window()
    program.sendall(b"one\r\n")
    window.read_until(b"one\r\n")
    program.close()
    window.wait_for(waiting=True)
    events = feed.events()
    while (event := next(events))["event"] != "ended":
        pass
    assert event["agent"] == AGENT
    assert feed.streams() == set()
    again, theirs = socket.socketpair()
    feed.push(AGENT, theirs, 24, 80, b"one\r\ntwo\r\n")  # the engine recorded what nobody read
    window.wait_for(waiting=False)
    again.sendall(b"three\r\n")
    assert window.read_until(b"three\r\n") == b"one\r\ntwo\r\nthree\r\n"
    again.close()


def test_a_dropped_agent_says_why_also_to_those_who_come_late(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty
) -> None:
    feed.push(AGENT, tty[1], 24, 80)
    window = terminals.window()
    window.wait_for(ready=True)
    feed.drop(AGENT, "ejected by alice")
    window.wait_for(ended="ejected by alice")
    window.wait_closed()
    late = terminals.window()
    late.wait_for(ended="ejected by alice")
    late.wait_closed()
    assert tty[0].recv(1) == b"", "the stream is closed"


def test_the_runner_may_come_and_go(terminals: TerminalsProcess, feed: FeedClient, tty: Tty) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80)
    window = terminals.window(rows=30, columns=90)
    window.wait_for(ready=True)
    feed.close()
    window.control(resize=[31, 91])
    window.type(b"x")
    assert program.recv(1) == b"x"
    runner = FeedClient(terminals.feed_path)
    runner.connect()
    assert runner.streams() == {AGENT}
    assert next(runner.events()) == {"event": "resize", "agent": AGENT, "rows": 31, "columns": 91}
    program.sendall(b"still here")
    window.read_until(b"still here")
    runner.close()


def test_pulling_at_a_window_all_the_time_cuts_nobody_off(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty
) -> None:
    """The runner is slow: it reads none of 5,000 resizes until the last one was made."""
    feed.push(AGENT, tty[1], 24, 80)
    window = terminals.window(rows=30, columns=90)
    window.wait_for(ready=True)
    for rows in range(5000):
        window.control(resize=[100 + rows % 2, 90])
    window.control(resize=[77, 90])
    window.type(b"x")
    assert tty[0].recv(1) == b"x", "all of them were looked at"
    assert any(event["rows"] == 77 for event in feed.events())
    feed.drop(AGENT, "the connection still stands")
    window.wait_for(ended="the connection still stands")


def test_one_person_does_not_take_all_places(terminals: TerminalsProcess) -> None:
    keys = [f"{number:032x}" for number in range(MOST_OF_ONE)]
    for window in [terminals.window(agent=key) for key in keys]:
        window.wait_for(ready=True)
    one_more = terminals.window(agent="f" * 32)
    one_more.wait_for(refused=f"{MOST_OF_ONE} windows of yours are open already")
    one_more.wait_closed()
    terminals.window(agent="f" * 32, viewer="bob").wait_for(ready=True)


def test_after_a_restart_the_runner_brings_the_streams_again(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty
) -> None:
    feed.push(AGENT, tty[1], 24, 80)
    terminals.stop()
    with pytest.raises(FeedLost):
        for _ in feed.events():
            pass
    terminals.start()
    feed.connect()
    assert feed.streams() == set()
    program, ours = socket.socketpair()
    feed.push(AGENT, ours, 24, 80, b"from the record")
    window = terminals.window()
    window.read_until(b"from the record")
    program.close()


def test_only_the_window_that_typed_last_answers_and_decides_the_size(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty
) -> None:
    feed.push(AGENT, tty[1], 24, 80)
    one = terminals.window(rows=30, columns=100)
    assert one.wait_for(viewers=1)["answers"] is True
    two = terminals.window(rows=40, columns=120)
    assert two.wait_for(viewers=2)["answers"] is True
    assert one.wait_for(viewers=2)["answers"] is False
    one.type(b"x")
    assert one.wait_for(viewers=2)["answers"] is True
    events = feed.events()
    assert [(e["rows"], e["columns"]) for e in (next(events) for _ in range(3))] == [(30, 100), (40, 120), (30, 100)]
    one.close()
    assert two.wait_for(viewers=1)["answers"] is True
    assert next(events)["rows"] == 40


def test_input_that_nobody_takes_is_bounded_and_what_is_taken_is_counted(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty
) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80)
    window = terminals.window()
    window.wait_for(ready=True)
    chunk = bytes(64 * 1024)
    window.type(chunk)
    got = 0
    while got < len(chunk):
        got += len(program.recv(MEBI))
    assert window.wait_for(typed=len(chunk))
    with contextlib.suppress(OSError):  # reset, or broken pipe
        for _ in range(200):
            window.type(chunk)
    window.wait_closed()
    other = terminals.window()
    other.wait_for(ready=True)
    program.sendall(b"alive")
    other.read_until(b"alive")
