"""An engine and a broker in memory, with no more than these tests need."""

from __future__ import annotations

import dataclasses
import itertools
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence

from agents.engine.errors import BrokerRefused, Conflict, NotFound
from agents.engine.types import (
    LABEL_AGENT,
    LABEL_OPERATION,
    AccountLink,
    BuildSpec,
    CheckedMount,
    ContainerInfo,
    EngineEvent,
    EngineInfo,
    HostIdentity,
    LaunchSpec,
    MountProblem,
    MountRequest,
    StagedMount,
    Staging,
)


class MemoryEngine:
    def __init__(self) -> None:
        self.made: dict[str, ContainerInfo] = {}
        self.specs: dict[str, LaunchSpec] = {}
        self.nets: dict[str, str] = {}
        self.far_ends: list[socket.socket] = []
        self._numbers = itertools.count(100)

    def info(self) -> EngineInfo:
        return EngineInfo(version="memory", api_version="1", remapped=True, cpus=2, memory=2**33)

    def image_id(self, tag: str) -> str | None:
        return f"sha256:{tag}"

    def image_content(self, tag: str) -> str | None:
        return None

    def build_image(
        self, spec: BuildSpec, *, log: Callable[[str], None], cancelled: Callable[[], bool] = lambda: False
    ) -> str:
        raise NotImplementedError

    def ensure_network(self, name: str, *, agent: str, operation: str) -> str:
        self.nets[name] = agent
        return name

    def create_container(self, spec: LaunchSpec) -> str:
        for one in self.made.values():
            if one.name == spec.name:
                if one.labels[LABEL_OPERATION] == spec.operation:
                    return one.id
                raise Conflict(f"There is a container {spec.name} already.")
        if spec.network not in self.nets:
            raise NotFound("There is no such network.")
        number = f"c{next(self._numbers)}"
        labels = {LABEL_AGENT: spec.agent, LABEL_OPERATION: spec.operation}
        self.made[number] = ContainerInfo(
            id=number, name=spec.name, status="created", pid=0, exit_code=None, labels=labels
        )
        self.specs[number] = spec
        return number

    def attach(self, container: str) -> socket.socket:
        self._get(container)
        near, far = socket.socketpair()
        self.far_ends.append(far)
        return near

    def start(self, container: str) -> ContainerInfo:
        self._change(container, status="running", pid=next(self._numbers))
        return self.made[container]

    def resize(self, container: str, *, rows: int, columns: int) -> None:
        self._get(container)

    def container(self, name_or_id: str) -> ContainerInfo | None:
        return next((one for one in self.made.values() if name_or_id in (one.id, one.name)), None)

    def containers(self) -> list[ContainerInfo]:
        return list(self.made.values())

    def networks(self) -> Mapping[str, str]:
        return dict(self.nets)

    def logs(self, container: str, *, most: int) -> bytes:
        return b"last words"[-most:] if container in self.made else b""

    def stop(self, container: str, *, grace: int) -> None:
        if container in self.made:
            self.end(container, exit_code=143)

    def remove_container(self, container: str) -> None:
        self.made.pop(container, None)

    def remove_network(self, name: str) -> None:
        self.nets.pop(name, None)

    def events(self, *, stop: Callable[[], bool]) -> Iterator[EngineEvent]:
        return iter(())

    def end(self, container: str, *, exit_code: int, oom: bool = False) -> None:
        self._change(container, status="exited", pid=0, exit_code=exit_code, oom_killed=oom)

    def close(self) -> None:
        for end in self.far_ends:
            end.close()

    def _get(self, container: str) -> ContainerInfo:
        if container not in self.made:
            raise NotFound("There is no such container.")
        return self.made[container]

    def _change(self, container: str, **values: object) -> None:
        self.made[container] = dataclasses.replace(self._get(container), **values)  # type: ignore[arg-type]


class MemoryBroker:
    def __init__(self) -> None:
        self.accounts = {"alice": "alice-unix", "bob": "bob-unix"}
        self.problems: dict[str, MountProblem] = {}
        self.waiting: dict[str, Staging] = {}
        self.admitted: dict[str, Mapping[str, str]] = {}

    def identity(self, web_user: str) -> HostIdentity:
        if web_user not in self.accounts:
            raise BrokerRefused(f"{web_user} is linked to no Unix account.", code="not-linked", remedy="Ask root.")
        account = self.accounts[web_user]
        return HostIdentity(account=account, uid=1000, gid=1000, home=f"/home/{account}", groups=())

    def links(self) -> list[AccountLink]:
        return [
            AccountLink(web_user=user, account=account, uid=1000, linked_at="2026-01-01T00:00:00+00:00", how="root")
            for user, account in self.accounts.items()
        ]

    def check(self, web_user: str, mounts: Sequence[MountRequest]) -> list[CheckedMount | MountProblem]:
        self.identity(web_user)
        return [
            self.problems.get(one.source)
            or CheckedMount(source=one.source, real_path=one.source, device=1, inode=2**63 + 5, fstype="ext4")
            for one in mounts
        ]

    def stage(self, web_user: str, launch: str, mounts: Sequence[MountRequest]) -> Staging:
        staged = []
        for index, one in enumerate(self.check(web_user, mounts)):
            if isinstance(one, MountProblem):
                raise BrokerRefused(one.message, code=one.code, index=index)
            asked = mounts[index]
            staged.append(
                StagedMount(
                    source=asked.source,
                    real_path=one.real_path,
                    device=one.device,
                    inode=one.inode,
                    destination=asked.destination,
                    mode=asked.mode,
                    staged=f"/stage/{launch}/{index}",
                )
            )
        self.waiting[launch] = Staging(
            launch=launch, mounts=tuple(staged), gate="/stage/gate", secrets="/stage/secrets", groups=()
        )
        return self.waiting[launch]

    def admit(self, launch: str, *, pid: int, secrets: Mapping[str, str]) -> None:
        if launch not in self.waiting:
            raise BrokerRefused("Nothing is prepared for this launch.", code="unknown-launch")
        del self.waiting[launch]
        self.admitted[launch] = dict(secrets)

    def release(self, launch: str) -> None:
        self.waiting.pop(launch, None)

    def staged(self) -> list[str]:
        return list(self.waiting)

    def network_ready(self) -> None:
        pass

    def forget_first_password(self) -> None:
        pass
