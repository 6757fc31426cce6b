"""An agent's own bridge network."""

from __future__ import annotations

import contextlib

from docker import DockerClient
from docker import errors as sdk_errors
from docker.models.networks import Network

from agents.engine.errors import Conflict
from agents.engine.types import LABEL_AGENT, LABEL_INSTANCE, LABEL_OPERATION


def ensure(client: DockerClient, name: str, *, instance: str, agent: str, operation: str) -> str:
    """The agent's network; returns its id. Raises Conflict if the name belongs to something else."""
    for attempt in range(2):
        found = _named(client, name)
        if found is not None:
            _check_ours(found, instance=instance, agent=agent)
            return str(found.id)
        try:
            made = client.networks.create(
                name,
                driver="bridge",
                check_duplicate=True,
                labels={LABEL_INSTANCE: instance, LABEL_AGENT: agent, LABEL_OPERATION: operation},
            )
        except sdk_errors.APIError as error:
            if error.status_code != 409 or attempt:
                raise
        else:
            return str(made.id)
    raise Conflict(f"The network {name} comes and goes.", remedy="Try again.")


def remove(client: DockerClient, name: str, *, instance: str) -> None:
    """Cut off whatever is connected and remove the network; gone is fine. Raises Conflict if it is not ours."""
    found = _named(client, name)
    if found is None:
        return
    _check_ours(found, instance=instance, agent=None)
    with contextlib.suppress(sdk_errors.NotFound):
        found.reload()
        for container in found.attrs.get("Containers") or {}:
            with contextlib.suppress(sdk_errors.NotFound):
                found.disconnect(container, force=True)
        found.remove()


def of_instance(client: DockerClient, *, instance: str) -> dict[str, str]:
    """Name → agent key of this instance's networks."""
    found = client.networks.list(filters={"label": f"{LABEL_INSTANCE}={instance}"})
    return {str(network.name): _labels(network).get(LABEL_AGENT, "") for network in found}


def _named(client: DockerClient, name: str) -> Network | None:
    # The filter matches parts of names, and inspecting by name matches the start of ids.
    return next((network for network in client.networks.list(names=[name]) if network.name == name), None)


def _labels(network: Network) -> dict[str, str]:
    return dict(network.attrs.get("Labels") or {})


def _check_ours(network: Network, *, instance: str, agent: str | None) -> None:
    labels = _labels(network)
    if labels.get(LABEL_INSTANCE) != instance or (agent is not None and labels.get(LABEL_AGENT) != agent):
        raise Conflict(f"The network {network.name} belongs to something else.", remedy="Remove that network.")
