"""One real terminals process per test, a runner's connection to it, and a socketpair as the TTY."""

from __future__ import annotations

import pathlib
import socket
from collections.abc import Iterator

import pytest

from agents.engine.feed_client import FeedClient
from tests.support.terminals import TerminalsProcess, terminals_process


@pytest.fixture
def terminals(tmp_path: pathlib.Path) -> Iterator[TerminalsProcess]:
    with terminals_process(tmp_path) as process:
        yield process


@pytest.fixture
def feed(terminals: TerminalsProcess) -> Iterator[FeedClient]:
    client = FeedClient(terminals.feed_path)
    client.connect()
    yield client
    client.close()


@pytest.fixture
def tty() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The program's end and the end that is handed over."""
    program, ours = socket.socketpair()
    program.settimeout(20)
    yield program, ours
    program.close()
    ours.close()
