"""Running agents as a test sees them from the engine: commands inside, addresses, privileges."""

from __future__ import annotations

import json

from agents.host.instance import Instance
from tests.support.machine import docker


def container_of(instance: Instance, key: str) -> str:
    """Id of the container of the agent with `key`."""
    return docker(instance, "ps", "-q", "--no-trunc", "--filter", f"label=jackin.agent={key}").strip()


def execute(instance: Instance, key: str, *command: str, user: str = "1000", detach: bool = False) -> str:
    """Run a command inside the agent; its output, errors included. The exit code is not looked at."""
    flags = ["--detach"] if detach else []
    return docker(instance, "exec", *flags, "--user", user, container_of(instance, key), *command, check=False)


def address_of(instance: Instance, key: str) -> str:
    """IPv4 address of the agent on its own network."""
    found = json.loads(docker(instance, "inspect", container_of(instance, key)))[0]
    return str(next(iter(found["NetworkSettings"]["Networks"].values()))["IPAddress"])


def privileged_ones(instance: Instance) -> list[str]:
    """Names of all containers of the engine that are privileged."""
    ids = docker(instance, "ps", "-aq").split()
    found = json.loads(docker(instance, "inspect", *ids)) if ids else []
    return [one["Name"] for one in found if one["HostConfig"]["Privileged"]]
