"""What the engine in memory keeps of a container."""

from __future__ import annotations

import dataclasses
import hashlib
import socket

from agents.engine.types import ContainerInfo, LaunchSpec


@dataclasses.dataclass(kw_only=True)
class FakeContainer:
    """A container in memory; `output` is what it has printed."""

    info: ContainerInfo
    spec: LaunchSpec | None
    size: tuple[int, int] = (0, 0)
    output: bytes = b""
    terminals: list[socket.socket] = dataclasses.field(default_factory=list)


def hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
