"""What the contract suite needs of an engine: images, staged directories, a gate to open, and a place for them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from agents.engine.api import Engine
from agents.engine.client import DockerEngine
from agents.engine.fake import FakeEngine
from agents.engine.types import BuildSpec, LaunchSpec, Limits, StagedMount, Staging

BASE = 1879048192  # the host's id of the remapped engine's root, see agents/host/instance.py
BUSYBOX = pathlib.Path("/usr/bin/busybox")
LIMITS = Limits(cpus=1.0, memory=512 * 1024**2, pids=256)
GATE = '#!/bin/sh\nread -r go < "${0%/*}/open" && exec "$@"\n'

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T], *, seconds: float = 30.0) -> T:
    """The first truthy answer of `look`; fails the test naming `what` after `seconds`."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


def read_until(sock: socket.socket, wanted: bytes, *, seconds: float = 30.0) -> bytes:
    """What the stream says up to and with `wanted`."""
    sock.settimeout(seconds)
    seen = bytearray()
    while wanted not in seen:
        piece = sock.recv(4096)
        assert piece, f"the stream ended before {wanted!r}: {bytes(seen)!r}"
        seen += piece
    return bytes(seen)


class Kit(Protocol):
    """One engine with all that the suite needs around it."""

    engine: Engine
    image: str
    live: bool

    def launch_spec(self, name: str = ..., *, script: str = ..., operation: str = ..., **changes: object) -> LaunchSpec:
        """A spec whose container runs `script` behind a gate; its network exists."""

    def open_gate(self, spec: LaunchSpec) -> None:
        """Let the container's gate go on."""

    def add_foreign_container(self) -> str:
        """A container on the same engine that is not this instance's; its id."""

    def add_foreign_network(self) -> str:
        """The same for a network; its name."""


class _Specs:
    """What both kits share: names that carry the instance, and specs."""

    engine: Engine
    image: str

    def __init__(self) -> None:
        self.instance = f"jkc{secrets.token_hex(4)}"

    def staging(self, launch: str) -> Staging:
        raise NotImplementedError

    def launch_spec(
        self, name: str = "one", *, script: str = "exec cat", operation: str = "op-1", **changes: object
    ) -> LaunchSpec:
        full = f"{self.instance}-{name}"
        agent = secrets.token_hex(16)
        values: dict[str, object] = {
            "name": full,
            "agent": agent,
            "operation": operation,
            "image": self.image,
            "argv": ("/bin/sh", "-c", script),
            "env": {"JACKIN_SEEN": "yes"},
            "workdir": "/workspace/project",
            "network": f"{full}-net",
            "staging": self.staging(agent),
            "limits": LIMITS,
            "hostname": name,
        }
        spec = LaunchSpec(**{**values, **changes})  # type: ignore[arg-type]
        self.engine.ensure_network(spec.network, agent=spec.agent, operation=spec.operation)
        return spec

    def build_spec(self, name: str, dockerfile: str, *, content: str = "", **files: bytes) -> BuildSpec:
        """A build of `dockerfile` with `files` beside it, tagged for this instance."""
        return BuildSpec(
            tag=f"{self.instance}/{name}:test",
            files={"Dockerfile": dockerfile.encode(), **files},
            content=content or secrets.token_hex(32),
            args={},
            limits=LIMITS,
        )


class FakeKit(_Specs):
    """The engine in memory."""

    live = False

    def __init__(self) -> None:
        super().__init__()
        self.engine: FakeEngine = FakeEngine(instance=self.instance)
        self.image = "jackin/base:trixie"
        self.engine.images[self.image] = {}

    def staging(self, launch: str) -> Staging:
        return _staging(launch, pathlib.Path("/stage") / launch)

    def open_gate(self, spec: LaunchSpec) -> None:
        """Nothing waits in memory."""

    def add_foreign_container(self) -> str:
        return self.engine.add_foreign_container("somebody-else")

    def add_foreign_network(self) -> str:
        self.engine.foreign_networks.add("somebody-else-net")
        return "somebody-else-net"


class RealKit(_Specs):
    """A real engine; everything that is made carries the instance's label and goes again at `close`."""

    live = True

    def __init__(self, socket_path: str) -> None:
        super().__init__()
        self.engine: DockerEngine = DockerEngine(socket_path, instance=self.instance)
        self.image = "jackin/base:trixie"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="jackin-contract-", dir="/var/lib"))
        self.folder.chmod(0o711)
        self.others = DockerEngine(socket_path, instance=f"{self.instance}x")
        self._gates: list[int] = []

    def staging(self, launch: str) -> Staging:
        place = self.folder / launch
        found = _staging(launch, place)
        for part in (found.gate, found.secrets, *(mount.staged for mount in found.mounts)):
            pathlib.Path(part).mkdir(parents=True)
            os.chown(part, BASE + 1000, BASE + 1000)
        place.chmod(0o711)
        gate = pathlib.Path(found.gate)
        shutil.copy(BUSYBOX, gate / "busybox")
        (gate / "gate").write_text(GATE)
        for name in ("busybox", "gate"):
            (gate / name).chmod(0o555)
        os.mkfifo(gate / "open", 0o400)
        os.chown(gate / "open", BASE + 1000, BASE + 1000)
        return found

    def open_gate(self, spec: LaunchSpec) -> None:
        fifo = os.open(pathlib.Path(spec.staging.gate) / "open", os.O_RDWR | os.O_NONBLOCK)
        self._gates.append(fifo)  # kept open: what is written must wait for its reader
        os.write(fifo, b"go\n")

    def add_foreign_container(self) -> str:
        spec = self.launch_spec("foreign")
        return self.others.create_container(spec)

    def add_foreign_network(self) -> str:
        name = f"{self.instance}x-net"
        self.others.ensure_network(name, agent="0" * 32, operation="other")
        return name

    def close(self) -> None:
        for engine in (self.engine, self.others):
            for container in engine.containers():
                engine.remove_container(container.id)
            for network in engine.networks():
                engine.remove_network(network)
            engine.close()
        for fifo in self._gates:
            os.close(fifo)
        shutil.rmtree(self.folder)


def _staging(launch: str, place: pathlib.Path) -> Staging:
    def mount(name: str, destination: str, mode: str) -> StagedMount:
        return StagedMount(
            source=f"/home/alice/{name}",
            real_path=f"/home/alice/{name}",
            device=1,
            inode=2,
            destination=destination,
            mode=mode,  # type: ignore[arg-type]
            staged=str(place / name),
        )

    return Staging(
        launch=launch,
        mounts=(mount("project", "/workspace/project", "rw"), mount("lent", "/workspace/project/lent", "ro")),
        gate=str(place / "gate"),
        secrets=str(place / "secrets"),
        groups=(2001, 2002),
    )


@contextlib.contextmanager
def real_kit(engine: str) -> Iterator[RealKit]:
    """A RealKit on the engine behind the socket `engine`."""
    kit = RealKit(engine)
    try:
        yield kit
    finally:
        kit.close()
