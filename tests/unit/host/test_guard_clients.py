"""The guard answers while others connect and say nothing."""

from __future__ import annotations

import os
import pathlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agents.broker import wire
from agents.host import guard_clients
from agents.host.guard_clients import Clients


@pytest.fixture
def path(tmp_path: pathlib.Path) -> Iterator[str]:
    """A socket at which the guard's loop answers `{"ok": True}` with what was asked."""
    place = str(tmp_path / "guard.sock")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(place)
    listening.listen(128)
    stop, stopper = os.pipe()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, **request}

    def serve() -> None:
        clients = Clients(listening, answer)
        while not clients.wait(stop=stop, timeout=30):
            pass
        clients.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield place
    finally:
        os.write(stopper, b"x")
        thread.join(10)
        for one in (stop, stopper):
            os.close(one)
        listening.close()


def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(10)
    client.connect(path)
    return client


def test_a_silent_client_keeps_nobody_waiting(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_clients, "CLIENT_SECONDS", 3600)
    silent = [connect(path) for _ in range(3)]
    silent[1].send(b"\0\0")
    assert wire.call(path, {"op": "x"}, timeout=1) == {"ok": True, "op": "x"}
    for one in silent:
        one.close()


def test_more_silent_clients_than_places_keep_nobody_out(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_clients, "CLIENT_SECONDS", 3600)
    monkeypatch.setattr(guard_clients, "MOST_CLIENTS", 4)
    silent = [connect(path) for _ in range(9)]
    assert wire.call(path, {"op": "x"}, timeout=1) == {"ok": True, "op": "x"}
    assert silent[0].recv(1) == b""
    for one in silent:
        one.close()


def test_a_silent_client_is_closed_in_time(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_clients, "CLIENT_SECONDS", 0.05)
    with connect(path) as silent:
        assert silent.recv(1) == b""


@pytest.mark.parametrize("sent", [b"\xff\xff\xff\xff", b"\0\0\0\x02[]", b"\0\0\0\x03{]}", b"\0\0\0\0"])
def test_what_is_no_request_is_dropped(path: str, sent: bytes) -> None:
    with connect(path) as client:
        client.sendall(sent)
        assert client.recv(100) == b""
    assert wire.call(path, {"op": "y"}, timeout=1)["ok"]
