"""An engine in memory that keeps the contract of agents.engine.api.Engine, for tests without Docker."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping

from agents.engine.api import Engine
from agents.engine.errors import Cancelled, Conflict, EngineError, NotFound
from agents.engine.fake_parts import FakeContainer, hashed
from agents.engine.hooks import Hooks
from agents.engine.types import (
    LABEL_AGENT,
    LABEL_CONTENT,
    LABEL_INSTANCE,
    LABEL_OPERATION,
    BuildSpec,
    ContainerInfo,
    EngineEvent,
    EngineInfo,
    LaunchSpec,
)

BANNER = b"fake terminal\r\n"


class FakeEngine(Engine):
    """See agents.engine.api.Engine. Beside the contract, for tests:

    `hooks.fail_at("start", error)` makes that call fail, `hooks.calls` names all calls so far; `exits(…)` ends a
    container by itself; `prints(…)` makes it print; what is typed is echoed, as a TTY does.
    """

    def __init__(self, *, instance: str = "test", remapped: bool = True, cpus: int = 8, memory: int = 32 * 1024**3):
        self.hooks = Hooks()
        self.images: dict[str, Mapping[str, str]] = {}  # tag → labels
        self.built: list[str] = []
        self.foreign_networks: set[str] = set()
        self._instance = instance
        self._info = EngineInfo(version="fake", api_version="1.41", remapped=remapped, cpus=cpus, memory=memory)
        self._containers: dict[str, FakeContainer] = {}
        self._networks: dict[str, str] = {}
        self._events: list[EngineEvent] = []
        self._building = threading.Lock()
        self._changed = threading.Condition(threading.RLock())
        self._ids = itertools.count(1)
        self._pids = itertools.count(4001)

    # The engine and its images

    def info(self) -> EngineInfo:
        self.hooks.enter("info")
        return self._info

    def image_id(self, tag: str) -> str | None:
        self.hooks.enter("image_id")
        labels = self.images.get(tag)
        return None if labels is None else "sha256:" + hashed(tag, labels.get(LABEL_CONTENT, ""))

    def image_content(self, tag: str) -> str | None:
        self.hooks.enter("image_content")
        return self.images.get(tag, {}).get(LABEL_CONTENT)

    def build_image(
        self, spec: BuildSpec, *, log: Callable[[str], None], cancelled: Callable[[], bool] = lambda: False
    ) -> str:
        self.hooks.enter("build_image")
        with self._building:
            return self._build(spec, log=log, cancelled=cancelled)

    def _build(self, spec: BuildSpec, *, log: Callable[[str], None], cancelled: Callable[[], bool]) -> str:
        if self.images.get(spec.tag, {}).get(LABEL_CONTENT) != spec.content:
            for line in spec.files["Dockerfile"].decode().splitlines():
                if cancelled():
                    raise Cancelled(f"The build of {spec.tag} was stopped on request.")
                log(line)
            self.built.append(spec.tag)
            self.images[spec.tag] = {**spec.labels, LABEL_INSTANCE: self._instance, LABEL_CONTENT: spec.content}
        return "sha256:" + hashed(spec.tag, spec.content)

    # Networks

    def ensure_network(self, name: str, *, agent: str, operation: str) -> str:
        self.hooks.enter("ensure_network")
        with self._changed:
            if name in self.foreign_networks or self._networks.get(name, agent) != agent:
                raise Conflict(f"The network {name} belongs to something else.", remedy="Remove that network.")
            self._networks[name] = agent
        return hashed("network", name)

    def networks(self) -> Mapping[str, str]:
        self.hooks.enter("networks")
        with self._changed:
            return dict(self._networks)

    def remove_network(self, name: str) -> None:
        self.hooks.enter("remove_network")
        if name in self.foreign_networks:
            raise Conflict(f"The network {name} belongs to something else.", remedy="Remove that network.")
        with self._changed:
            self._networks.pop(name, None)

    # Containers

    def create_container(self, spec: LaunchSpec) -> str:
        self.hooks.enter("create_container")
        with self._changed:
            if spec.image not in self.images:
                raise NotFound(f"The image {spec.image} does not exist.", remedy="Run `manage.py images`.")
            if spec.network not in self._networks and spec.network not in self.foreign_networks:
                raise NotFound(f"The engine does not know the network {spec.network}.")
            for found in self._containers.values():
                if found.info.name == spec.name:
                    if found.info.labels.get(LABEL_OPERATION) == spec.operation and self._ours(found):
                        return found.info.id
                    raise Conflict(f"The container name {spec.name} is taken by something else.")
            labels = {LABEL_INSTANCE: self._instance, LABEL_AGENT: spec.agent, LABEL_OPERATION: spec.operation}
            return self._add(spec.name, labels=labels, spec=spec)

    def _add(self, name: str, *, labels: Mapping[str, str], spec: LaunchSpec | None) -> str:
        key = hashed("container", name, str(next(self._ids)))
        info = ContainerInfo(id=key, name=name, status="created", pid=0, exit_code=None, labels=labels)
        self._containers[key] = FakeContainer(info=info, spec=spec)
        self._tell("create", self._containers[key])
        return key

    def attach(self, container: str) -> socket.socket:
        self.hooks.enter("attach")
        with self._changed:
            found = self._get(container)
            if found.info.status not in ("created", "running"):
                raise Conflict(f"The container {container[:12]} does not run.")
            ours, theirs = socket.socketpair()
            found.terminals.append(theirs)
        threading.Thread(target=self._echo, args=(found, theirs), daemon=True).start()
        return ours

    def start(self, container: str) -> ContainerInfo:
        self.hooks.enter("start")
        with self._changed:
            found = self._get(container)
            if found.info.status != "running":
                self._set(found, status="running", pid=next(self._pids), exit_code=None)
                self._tell("start", found)
                self.prints(container, BANNER)
            return found.info

    def resize(self, container: str, *, rows: int, columns: int) -> None:
        self.hooks.enter("resize")
        with self._changed:
            found = self._get(container)
            if found.info.status == "running":
                found.size = (rows, columns)

    def container(self, name_or_id: str) -> ContainerInfo | None:
        self.hooks.enter("container")
        with self._changed, contextlib.suppress(NotFound):
            return self._get(name_or_id).info
        return None

    def containers(self) -> list[ContainerInfo]:
        self.hooks.enter("containers")
        with self._changed:
            return [found.info for found in self._containers.values() if self._ours(found)]

    def logs(self, container: str, *, most: int) -> bytes:
        self.hooks.enter("logs")
        with self._changed, contextlib.suppress(NotFound):
            return self._get(container).output[-most:] if most > 0 else b""
        return b""

    def pause(self, container: str) -> None:
        self.hooks.enter("pause")
        self._freeze(container, "running", "paused")

    def unpause(self, container: str) -> None:
        self.hooks.enter("unpause")
        with contextlib.suppress(NotFound):
            self._freeze(container, "paused", "running")

    def _freeze(self, container: str, before: str, after: str) -> None:
        with self._changed:
            found = self._get(container)
            if found.info.status == before:
                self._set(found, status=after)

    def stop(self, container: str, *, grace: int) -> None:
        self.hooks.enter("stop")
        self._refuse_foreign(container)
        with self._changed, contextlib.suppress(NotFound):
            if self._get(container).info.status in ("running", "paused"):
                self.exits(container, code=129)

    def remove_container(self, container: str) -> None:
        self.hooks.enter("remove_container")
        self._refuse_foreign(container)
        with self._changed, contextlib.suppress(NotFound):
            found = self._get(container)
            if found.info.status in ("running", "paused"):
                self.exits(container, code=137)
            self._hang_up(found)
            del self._containers[found.info.id]
            self._tell("destroy", found)

    # Events

    def events(self, *, stop: Callable[[], bool]) -> Iterator[EngineEvent]:
        self.hooks.enter("events")
        with self._changed:
            seen = len(self._events)
        return self._follow(seen, stop=stop)

    def _follow(self, seen: int, *, stop: Callable[[], bool]) -> Iterator[EngineEvent]:
        while not stop():
            with self._changed:
                if seen >= len(self._events):
                    self._changed.wait(0.1)
                new = self._events[seen:]
            for event in new:
                seen += 1
                yield event

    # For tests, outside the contract

    def add_foreign_container(self, name: str) -> str:
        """A container of somebody else on the same engine."""
        with self._changed:
            return self._add(name, labels={}, spec=None)

    def fake(self, container: str) -> FakeContainer:
        """What is behind a container of ours."""
        return self._get(container)

    def exits(self, container: str, *, code: int = 0, oom_killed: bool = False) -> None:
        """The container ends by itself."""
        with self._changed:
            found = self._get(container)
            self._set(found, status="exited", pid=0, exit_code=code, oom_killed=oom_killed)
            self._hang_up(found)
            self._tell("die", found)

    def prints(self, container: str, data: bytes) -> None:
        """The container prints `data` on its terminal."""
        with self._changed:
            found = self._get(container)
            found.output += data
            terminals = list(found.terminals)
        for terminal in terminals:
            with contextlib.suppress(OSError):
                terminal.sendall(data)

    def loses_streams(self, container: str) -> None:
        """All attached streams break, as at a restart of the engine; the container runs on."""
        self._hang_up(self._get(container))

    def _echo(self, container: FakeContainer, terminal: socket.socket) -> None:
        with contextlib.suppress(OSError, EngineError), terminal:
            while data := terminal.recv(65536):
                self.prints(container.info.id, data)
        with self._changed, contextlib.suppress(ValueError):
            container.terminals.remove(terminal)

    def _hang_up(self, found: FakeContainer) -> None:
        for terminal in found.terminals:
            with contextlib.suppress(OSError):
                terminal.shutdown(socket.SHUT_RDWR)
        found.terminals.clear()

    def _ours(self, found: FakeContainer) -> bool:
        return found.info.labels.get(LABEL_INSTANCE) == self._instance

    def _any(self, name_or_id: str) -> FakeContainer | None:
        for key, found in self._containers.items():
            if name_or_id and (found.info.name == name_or_id or key.startswith(name_or_id)):
                return found
        return None

    def _get(self, name_or_id: str) -> FakeContainer:
        found = self._any(name_or_id)
        if found is None or not self._ours(found):
            raise NotFound(f"There is no container {name_or_id!r} of this service.")
        return found

    def _refuse_foreign(self, name_or_id: str) -> None:
        found = self._any(name_or_id)
        if found is not None and not self._ours(found):
            raise Conflict(f"The container {name_or_id} is not of this service and is left alone.")

    def _set(self, found: FakeContainer, **changes: object) -> None:
        found.info = dataclasses.replace(found.info, **changes)  # type: ignore[arg-type]

    def _tell(self, action: str, found: FakeContainer) -> None:
        if self._ours(found):
            event = EngineEvent(action=action, container=found.info.id, agent=found.info.labels.get(LABEL_AGENT, ""))
            self._events.append(event)
            self._changed.notify_all()
