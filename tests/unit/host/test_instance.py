"""Names and ports of an installation."""

from __future__ import annotations

import pytest

from agents.host.instance import BadInstance, Instance


def test_defaults() -> None:
    found = Instance.from_env({})
    assert (found.name, found.port, str(found.data)) == ("jackin", 8000, "/var/lib/jackin-web")


def test_another_instance_has_other_places() -> None:
    found = Instance.from_env({"JACKIN_INSTANCE": "two", "JACKIN_PORT": "8001"})
    assert str(found.broker_socket) == "/var/lib/jackin-web-two/run-root/broker.sock"
    assert (found.veth, found.port) == ("two-host", 8001)


@pytest.mark.parametrize("name", ["Big", "1a", "a-b", "../x", "abcdefghi", "a\n", " "])
def test_bad_names(name: str) -> None:
    with pytest.raises(BadInstance, match="JACKIN_INSTANCE"):
        Instance.from_env({"JACKIN_INSTANCE": name})


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "٣", "8000 "])
def test_bad_ports(port: str) -> None:
    with pytest.raises(BadInstance, match="JACKIN_PORT"):
        Instance.from_env({"JACKIN_PORT": port})
