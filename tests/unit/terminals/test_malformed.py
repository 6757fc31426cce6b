"""What is no window, no runner and no stream ends by itself, and nothing else with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from agents.engine.feed_client import FeedClient
from agents.terminals import protocol
from tests.support.terminals import AGENT, TerminalsProcess

Tty = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize(
    "frame",
    [
        b"garbage, not a frame",
        protocol.bytes_frame(b"before attach"),
        protocol.control_frame({"attach": "../../etc", "viewer": "a", "rows": 1, "columns": 1}),
        protocol.HEADER.pack(protocol.BYTES, 2**31),
    ],
)
def test_malformed_first_frames_end_that_window_only(
    terminals: TerminalsProcess, feed: FeedClient, tty: Tty, frame: bytes
) -> None:
    program, ours = tty
    feed.push(AGENT, ours, 24, 80)
    good = terminals.window()
    good.wait_for(ready=True)
    with socket.socket(socket.AF_UNIX) as bad:
        bad.connect(terminals.viewer_path)
        bad.sendall(frame)
        bad.settimeout(20)
        while bad.recv(1000):
            pass
    program.sendall(b"alive")
    good.read_until(b"alive")


@pytest.mark.parametrize(
    "control", [{"ack": 1}, {"ack": -1}, {"resize": [0, 0]}, {"resize": 7}, {"resize": [10, 10], "x": 1}, {}]
)
def test_malformed_controls_end_the_window(terminals: TerminalsProcess, feed: FeedClient, control: dict) -> None:  # type: ignore[type-arg]
    window = terminals.window()
    window.wait_for(ready=True)
    window.control(**control)
    window.wait_closed()
    assert any("refused" in one for one in window.controls)


@pytest.mark.parametrize(
    "message",
    [
        b"not json",
        b"[]",
        b'{"op":"hello","more":1}',
        b'{"op":"stream","agent":"0123456789abcdef0123456789abcdef","rows":24,"columns":80}',
        b'{"op":"drop","agent":"x","reason":"y"}',
        b'{"op":"exec"}',
    ],
)
def test_malformed_feed_messages_end_that_connection_only(terminals: TerminalsProcess, message: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as bad:
        bad.connect(terminals.feed_path)
        bad.settimeout(20)
        bad.send(message)
        assert bad.recv(100) == b""
    good = FeedClient(terminals.feed_path)
    good.connect()
    assert good.streams() == set()
    good.close()


def test_descriptors_that_are_no_stream_are_refused_and_closed(terminals: TerminalsProcess) -> None:
    message = protocol.encode_message({"op": "stream", "agent": AGENT, "rows": 24, "columns": 80})
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as bad:
        bad.connect(terminals.feed_path)
        bad.settimeout(20)
        socket.send_fds(bad, [message], [writing])
        os.close(writing)
        assert bad.recv(100) == b""
    assert os.read(reading, 1) == b"", "its copy is closed too"
    os.close(reading)


def test_says_what_it_misses_when_started_by_hand() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agents.terminals"], capture_output=True, text=True, env={}, check=False
    )
    assert done.returncode == 1
    assert "JACKIN_FD_FEED" in done.stderr
