"""What our engine is told, so that it shares nothing with another one on the machine."""

from __future__ import annotations

from agents.host import engine_config
from agents.host.addresses import Addresses, choose
from agents.host.instance import Instance

SYSTEM = "/run/containerd/"


def config(instance: Instance) -> str:
    addresses: Addresses = choose(())
    return repr(engine_config.dockerd_config(instance, addresses=addresses, mtu=1500, dns=()))


def test_it_has_a_containerd_of_its_own() -> None:
    """On the system's one it would meet an ordinary engine's containers, in the same namespace `moby`."""
    instance = Instance()
    socket = engine_config.containerd_socket(instance)
    assert f"'containerd': '{socket}'" in config(instance)
    told = engine_config.containerd_toml(instance)
    assert f'address = "{socket}"' in told
    assert SYSTEM not in told + config(instance)


def test_no_two_instances_share_a_place() -> None:
    places = [set(config(Instance(name=name)).split("'")) for name in ("jackin", "other")]
    shared = {place for place in places[0] & places[1] if place.startswith(("/", "unix:"))}
    assert shared == set()
