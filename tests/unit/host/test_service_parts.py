"""Which parts the service supervises, and which sockets it binds for them."""

from __future__ import annotations

import pathlib
import socket

import pytest

from agents.host import children, forwarding, resolvers
from agents.host.instance import Instance
from agents.host.service import Service
from agents.host.settings import Settings
from agents.host.supervisor import Supervisor


@pytest.mark.parametrize("upstreams", [(), ("127.0.0.53",)])
def test_the_forwarder_is_a_part_exactly_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, upstreams: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Instance, "data", tmp_path)
    monkeypatch.setattr(Instance, "logs", tmp_path)
    monkeypatch.setattr("agents.host.settings.secret_key", lambda _: "x")
    monkeypatch.setattr(children, "bind", lambda _: socket.socket(socket.AF_UNIX))
    monkeypatch.setattr(forwarding, "bind", lambda _: {name: socket.socket() for name in forwarding.SOCKETS.values()})
    monkeypatch.setattr(resolvers, "noted_upstreams", lambda _: upstreams)
    started: list[str] = []

    def init(self: Supervisor, parts: tuple[children.Child, ...], *, listening: dict[str, object], **_: object) -> None:
        started.extend(part.name for part in parts)
        assert {name for part in parts for name in part.sockets.values()} <= set(listening)

    monkeypatch.setattr(Supervisor, "__init__", init)
    service = Service(Settings(instance=Instance()), tmp_path, account=None, eject=False)
    for sock in service._supervisor()[1].values():
        sock.close()
    assert ("dns" in started) is bool(upstreams)
    assert started[-1] == "daphne"
