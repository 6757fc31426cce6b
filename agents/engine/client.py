"""The engine's contract kept on a Docker engine; safe to use from several threads."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from docker import DockerClient
from docker import errors as sdk_errors
from docker.models.containers import Container

from agents.engine import builds, containers, events, networks, streams
from agents.engine.api import Engine
from agents.engine.errors import Cancelled, Conflict, NotFound
from agents.engine.sdk import Pool
from agents.engine.types import (
    LABEL_CONTENT,
    LABEL_INSTANCE,
    BuildSpec,
    ContainerInfo,
    EngineEvent,
    EngineInfo,
    LaunchSpec,
)


class DockerEngine(Engine):
    """See agents.engine.api.Engine. `instance` is the service's name: only what carries it as label is touched.

    `before_build` is called before a build runs; what it raises ends the build before its first step.
    """

    def __init__(
        self,
        socket_path: str | os.PathLike[str],
        *,
        instance: str,
        before_build: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = Pool(socket_path)
        self._instance = instance
        self._before_build = before_build
        self._building = threading.Lock()  # one build at a time; a second of the same image finds it made

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    # The engine and its images

    def info(self) -> EngineInfo:
        with self._pool.client("the engine") as client:
            said: Mapping[str, Any] = client.info()
            return EngineInfo(
                version=str(said.get("ServerVersion", "")),
                api_version=str(client.api.api_version),
                remapped=any("name=userns" in option for option in said.get("SecurityOptions") or ()),
                cpus=int(said.get("NCPU") or 0),
                memory=int(said.get("MemTotal") or 0),
            )

    def image_id(self, tag: str) -> str | None:
        return str(image["Id"]) if (image := self._image(tag)) else None

    def image_content(self, tag: str) -> str | None:
        labels = ((self._image(tag) or {}).get("Config") or {}).get("Labels") or {}
        return labels.get(LABEL_CONTENT)

    def _image(self, tag: str) -> Mapping[str, Any] | None:
        with self._pool.client(f"the image {tag}") as client:
            try:
                return dict(client.images.get(tag).attrs)
            except sdk_errors.ImageNotFound:
                return None

    def build_image(
        self, spec: BuildSpec, *, log: Callable[[str], None], cancelled: Callable[[], bool] = lambda: False
    ) -> str:
        while not self._building.acquire(timeout=builds.POLL_SECONDS):
            if cancelled():
                raise Cancelled(f"The build of {spec.tag} was stopped on request.")
        try:
            if self.image_content(spec.tag) == spec.content and (found := self.image_id(spec.tag)):
                return found
            self._before_build()
            return builds.build(self._pool, spec, instance=self._instance, log=log, cancelled=cancelled)
        finally:
            self._building.release()

    # Networks

    def ensure_network(self, name: str, *, agent: str, operation: str) -> str:
        with self._pool.client(f"the network {name}") as client:
            return networks.ensure(client, name, instance=self._instance, agent=agent, operation=operation)

    def networks(self) -> Mapping[str, str]:
        with self._pool.client("the networks") as client:
            return networks.of_instance(client, instance=self._instance)

    def remove_network(self, name: str) -> None:
        with self._pool.client(f"the network {name}") as client:
            networks.remove(client, name, instance=self._instance)

    # Containers

    def create_container(self, spec: LaunchSpec) -> str:
        with self._pool.client(f"the container {spec.name}") as client:
            return containers.create(client, spec, instance=self._instance)

    def attach(self, container: str) -> socket.socket:
        with self._found(container) as (client, found):
            version = str(client.api.api_version)
            return streams.attach(self._pool.socket_path, str(found.id), api_version=version)

    def start(self, container: str) -> ContainerInfo:
        with self._found(container) as (_, found):
            containers.start(found)
            found.reload()
            info = containers.info(found)
            if info.pid:
                containers.wait_for_program(info.pid)
            return info

    def resize(self, container: str, *, rows: int, columns: int) -> None:
        with self._found(container) as (_, found):
            if found.status != "running":
                return
            try:
                found.resize(height=rows, width=columns)
            except sdk_errors.APIError:
                found.reload()
                if found.status == "running":
                    raise

    def container(self, name_or_id: str) -> ContainerInfo | None:
        try:
            with self._found(name_or_id) as (_, found):
                return containers.info(found)
        except NotFound:
            return None

    def containers(self) -> list[ContainerInfo]:
        with self._pool.client("the containers") as client:
            label: dict[str, str | list[str] | bool] = {"label": f"{LABEL_INSTANCE}={self._instance}"}
            return [containers.info(c) for c in client.containers.list(all=True, filters=label, ignore_removed=True)]

    def logs(self, container: str, *, most: int) -> bytes:
        try:
            with self._found(container) as (_, found):
                return bytes(found.logs(stdout=True, stderr=True, tail="all")[-most:]) if most > 0 else b""
        except NotFound:
            return b""

    def stop(self, container: str, *, grace: int) -> None:
        with contextlib.suppress(NotFound), self._found(container, refuse_foreign=True) as (_, found):
            containers.unpause(found)  # a frozen one would not see the hang-up
            found.stop(timeout=grace)

    def pause(self, container: str) -> None:
        with self._found(container) as (_, found):
            containers.pause(found)

    def unpause(self, container: str) -> None:
        with contextlib.suppress(NotFound), self._found(container) as (_, found):
            containers.unpause(found)

    def remove_container(self, container: str) -> None:
        with contextlib.suppress(NotFound), self._found(container, refuse_foreign=True) as (client, found):
            containers.remove(client, str(found.id))

    @contextlib.contextmanager
    def _found(self, container: str, *, refuse_foreign: bool = False) -> Iterator[tuple[DockerClient, Container]]:
        with self._pool.client(f"the container {container[:64]}") as client:
            if refuse_foreign and containers.foreign(client, container, instance=self._instance):
                raise Conflict(f"The container {container[:64]} is not of this service and is left alone.")
            yield client, containers.find(client, container, instance=self._instance)

    # Events

    def events(self, *, stop: Callable[[], bool]) -> Iterator[EngineEvent]:
        return events.subscribe(self._pool, instance=self._instance, stop=stop)
