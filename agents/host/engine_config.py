"""What our containerd and dockerd are told: pure text and lists."""

from __future__ import annotations

from typing import Any

from agents.host import limits
from agents.host.addresses import Addresses
from agents.host.instance import USER_REMAP, USER_RUN, Instance

# Names of several generations; one that a containerd does not know is ignored by it. NRI has one socket per machine.
UNUSED_PLUGINS = (
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.nri.v1.nri",
)


def containerd_socket(instance: Instance) -> str:
    return f"{instance.run_root}/containerd.sock"


def containerd_file(instance: Instance) -> str:
    return f"{instance.host_dir}/containerd.toml"


def dockerd_file(instance: Instance) -> str:
    return f"{instance.host_dir}/dockerd.json"


def containerd_toml(instance: Instance) -> str:
    """Its own containerd: where the system's one runs, dockerd would share it, in the same namespace `moby`."""
    disabled = ", ".join(f'"{name}"' for name in UNUSED_PLUGINS)
    return (
        "version = 2\n"
        f'root = "{instance.engine_dir}/containerd"\n'
        f'state = "{instance.run_root}/containerd"\n'
        f"disabled_plugins = [{disabled}]\n"
        "[grpc]\n"
        f'  address = "{containerd_socket(instance)}"\n'
        '[plugins."io.containerd.internal.v1.opt"]\n'
        f'  path = "{instance.engine_dir}/opt"\n'
    )


def containerd_argv(instance: Instance) -> list[str]:
    """What it starts makes the containers' user namespaces, with the limits that it has itself."""
    return [*limits.engine_limits(), "containerd", "--config", containerd_file(instance)]


def dockerd_config(
    instance: Instance, *, addresses: Addresses, mtu: int, dns: tuple[str, ...], seccomp: str = ""
) -> dict[str, Any]:
    """Everything in a file of ours: the host's /etc/docker/daemon.json belongs to another engine.

    `seccomp` is the file of the profile for all containers and builds; without one it is the engine's own default.
    """
    config: dict[str, Any] = {
        "hosts": [f"unix://{instance.engine_socket}"],
        "group": USER_RUN,
        "userns-remap": USER_REMAP,
        "containerd": containerd_socket(instance),
        "data-root": f"{instance.engine_dir}/data",
        "exec-root": f"{instance.run_root}/docker",
        "pidfile": f"{instance.run_root}/docker.pid",
        "live-restore": True,
        "bip": f"{addresses.bridge[1]}/{addresses.bridge.prefixlen}",
        "default-address-pools": [{"base": str(addresses.pool), "size": 26}],
        "mtu": mtu,
        "icc": False,  # builds of different people share the default bridge
        "userland-proxy": False,
        "log-driver": "local",  # json-file corrupts bytes
        "log-opts": {"max-size": "10m", "max-file": "3"},
        "features": {"containerd-snapshotter": False},  # does not go with userns-remap
        "max-concurrent-downloads": 2,
    }
    if dns:
        config["dns"] = list(dns)
    if seccomp:
        config["seccomp-profile"] = seccomp
    return config


def dockerd_argv(instance: Instance) -> list[str]:
    """nsenter, not `ip netns exec`: the latter mounts a new /sys and hides the cgroups."""
    netns = f"--net=/run/netns/{instance.netns}"
    return ["nsenter", netns, "dockerd", "--config-file", dockerd_file(instance)]
