"""The doctor, without a service, on a host whose only resolver listens on loopback."""

from __future__ import annotations

import pytest

from tests.docker_live.network_kit import resolver_on
from tests.support.fake_host import fake_host

pytestmark = pytest.mark.live


def test_the_doctor_tries_names_through_a_forwarder_of_its_own() -> None:
    with fake_host(resolver="127.0.0.1") as host:
        with resolver_on(host, "127.0.0.1"):
            found = host.doctor()
        names = ("firewall", "host not reachable", "agents apart", "DNS")
        assert {name: found[name][0] for name in names} == dict.fromkeys(names, "ok"), found
        assert host.doctor()["DNS"][0] == "failure"  # nobody listens now
