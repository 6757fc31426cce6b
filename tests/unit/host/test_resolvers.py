"""Whom agents ask for names, and when the forwarder is needed."""

from __future__ import annotations

import ipaddress
import pathlib

import pytest

from agents.host import children, resolvers
from agents.host.instance import Instance
from agents.host.settings import Settings

OWN = (ipaddress.IPv4Address("192.0.2.2"),)
INNER = ipaddress.IPv4Address("10.213.0.2")


@pytest.fixture
def files(tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    return tmp_path / "resolv.conf", tmp_path / "systemd"


def choose(files: tuple[pathlib.Path, pathlib.Path]) -> resolvers.Names:
    return resolvers.choose(own=OWN, inner=INNER, files=files)


@pytest.mark.parametrize(
    "local", ["127.0.0.1", "127.0.0.53", "192.0.2.2", "0.0.0.0", "169.254.169.253", "::1", "fd00::1"]
)
def test_a_resolver_out_of_agents_reach_is_asked_by_the_forwarder(
    files: tuple[pathlib.Path, pathlib.Path], local: str
) -> None:
    files[0].write_text(f"search lan\nnameserver {local}\n")
    assert choose(files) == resolvers.Names(servers=(str(INNER),), upstreams=(local,))


def test_a_resolver_within_reach_is_asked_by_agents_themselves(files: tuple[pathlib.Path, pathlib.Path]) -> None:
    files[0].write_text("nameserver 127.0.0.1\nnameserver 198.51.100.1\n")
    assert choose(files) == resolvers.Names(servers=("198.51.100.1",))


def test_what_systemd_resolved_asks_comes_before_the_forwarder(files: tuple[pathlib.Path, pathlib.Path]) -> None:
    files[0].write_text("nameserver 127.0.0.53\n")
    files[1].write_text("nameserver 198.51.100.1\n")
    assert choose(files) == resolvers.Names(servers=("198.51.100.1",))


def test_a_host_without_a_resolver_gets_no_forwarder(files: tuple[pathlib.Path, pathlib.Path]) -> None:
    assert choose(files) == resolvers.Names(servers=())


def test_a_link_local_resolver_keeps_its_interface(files: tuple[pathlib.Path, pathlib.Path]) -> None:
    files[0].write_text("nameserver fe80::1%eth0\n")
    assert choose(files).upstreams == ("fe80::1%eth0",)


def test_the_process_is_there_only_where_it_is_needed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.host.settings.secret_key", lambda _: "x")
    wanted = Settings(instance=Instance())
    assert "dns" not in [child.name for child in children.children(wanted, tmp_path)]
    (found,) = [c for c in children.children(wanted, tmp_path, upstreams=("127.0.0.1",)) if c.name == "dns"]
    assert "--reuid=jackin-dns" in found.argv
    assert "--no-new-privs" in found.argv
    assert set(found.sockets.values()) == {"dns-udp", "dns-tcp"}
    assert not [name for name in found.env if name.endswith(("_SOCKET", "_KEY", "_DATABASE"))]
