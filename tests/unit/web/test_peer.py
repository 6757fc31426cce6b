"""Whose process stands at the other end of a connection of this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from agents.web import peer

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both ends of a connection over loopback: the browser's, and the server's."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listening, socket.socket(family) as client:
        listening.bind((request.param, 0))
        listening.listen()
        client.connect(listening.getsockname())
        server, _ = listening.accept()
        with server:
            yield client, server


def looked_up(pair: Pair) -> str:
    return peer.of(pair[1].getpeername()[:2], pair[1].getsockname()[:2])


def test_the_account_of_the_other_end_is_found(pair: Pair) -> None:
    assert looked_up(pair) == f"uid {os.getuid()}"


def test_an_end_that_closes_is_nobody(pair: Pair) -> None:
    """Later the kernel would call it root."""
    ends = pair[1].getpeername()[:2], pair[1].getsockname()[:2]
    pair[0].shutdown(socket.SHUT_WR)
    assert peer.of(*ends) == peer.NOBODY
    pair[0].close()
    assert peer.of(*ends) == peer.NOBODY
    pair[1].close()
    assert peer.of(*ends) == peer.NOBODY


def test_the_server_s_own_end_is_not_taken_for_it(pair: Pair) -> None:
    client, server = pair[1].getpeername()[:2], pair[1].getsockname()[:2]
    assert peer.of((client[0], client[1] ^ 1), server) == peer.NOBODY
    assert peer.of(client, (server[0], server[1] ^ 1)) == peer.NOBODY


@pytest.mark.parametrize("client", [None, ("192.0.2.7", 40000), ("2001:db8::7", 40000), ("", None), ("testclient", 1)])
def test_another_machine_is_elsewhere(client: tuple[str, int] | None) -> None:
    assert peer.of(client, ("192.0.2.1", 8000)) == peer.ELSEWHERE


@pytest.mark.parametrize(
    ("bound", "now", "fits"),
    [
        (None, "uid 1000", True),
        ("uid 1000", "uid 1000", True),
        ("uid 1000", "uid 1001", False),
        ("uid 1000", "elsewhere", False),
        ("elsewhere", "uid 1000", False),
        ("elsewhere", "elsewhere", True),
        ("nobody", "nobody", False),
    ],
)
def test_a_session_fits_the_account_that_opened_it(bound: str | None, now: str, fits: bool) -> None:
    assert peer.fits(bound, now) is fits
