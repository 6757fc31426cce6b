"""The frozen values that cross the engine's border."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

Mode = Literal["ro", "rw"]

LABEL_INSTANCE = "jackin.instance"  # which service made it (one machine may run several)
LABEL_AGENT = "jackin.agent"  # key of the agent, 32 hex digits
LABEL_OPERATION = "jackin.operation"  # id of the operation that made it
LABEL_CONTENT = "jackin.content"  # images: SHA-256 of everything that went into the build


@dataclasses.dataclass(frozen=True, kw_only=True)
class MountRequest:
    """One host path as asked for. `destination` is the absolute path in the container."""

    source: str
    destination: str
    mode: Mode


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckedMount:
    """What the broker found for one MountRequest, as the owner; nothing is mounted yet."""

    source: str
    real_path: str
    device: int
    inode: int
    fstype: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class MountProblem:
    """Why one MountRequest is refused. `code` is one of `agents.broker.protocol.CODES`."""

    code: str
    message: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagedMount:
    """A mount that waits in the staging directory for Docker to bind it."""

    source: str
    real_path: str
    device: int
    inode: int
    destination: str
    mode: Mode
    staged: str  # path that Docker binds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Staging:
    """Everything the broker prepared for one launch.

    `gate` and `secrets` are staged directories to bind at GATE_DIR (read-only) and SECRETS_DIR (read-write);
    `groups` are the container's supplementary gids (2001, 2002, …).
    """

    launch: str
    mounts: tuple[StagedMount, ...]
    gate: str
    secrets: str
    groups: tuple[int, ...]
    state: str = ""  # staged directory to bind at STATE_DIR (read-write), or empty


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateSize:
    """A state as it was measured. `size` in bytes on disk; `whole` is False when there is more than was counted."""

    size: int
    entries: int
    logins: bool
    whole: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatesOnDisk:
    """Keys of the states that lie on the host, and of those in the trash that are not deleted yet."""

    kept: frozenset[str]
    trash: frozenset[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deleted:
    """How far a deletion is: whether all is gone, and how many entries went with this call."""

    done: bool
    removed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """What the broker wrote of a state: entries, bytes of files; what it could not take along.

    `skipped` are sockets, pipes and devices; `changed` are files that were written while they were read.
    """

    entries: int
    bytes: int
    skipped: int
    changed: int
    logins_left_out: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostIdentity:
    """A linked Unix account as the host's own user database knows it now."""

    account: str
    uid: int
    gid: int
    home: str
    groups: tuple[str, ...]  # names of the allowed supplementary groups


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccountLink:
    """Which web user may act as which Unix account. `linked_at` is ISO 8601 UTC."""

    web_user: str
    account: str
    uid: int
    linked_at: str
    how: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one container may use. `memory` in bytes, `cpus` in whole and part processors."""

    cpus: float
    memory: int
    pids: int
    nofile: int = 65536


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """All that a container of an agent is made from; built by operations after policy was checked.

    `argv` is what the gate executes once it is opened (the entrypoint and its arguments).
    `env` never holds a secret: secrets go through the broker's `admit`.
    """

    name: str
    agent: str
    operation: str
    image: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str
    network: str
    staging: Staging
    limits: Limits
    hostname: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """One image to build. `files` maps names in the build context to content; `Dockerfile` is one of them.

    `content` is the digest that names this build: an image with this LABEL_CONTENT under `tag` is up to date.
    """

    tag: str
    files: Mapping[str, bytes]
    content: str
    args: Mapping[str, str]
    limits: Limits
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    executable: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContainerInfo:
    """A container as the engine sees it now. `pid` is 0 unless it runs; `exit_code` None until it ended."""

    id: str
    name: str
    status: Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]
    pid: int
    exit_code: int | None
    labels: Mapping[str, str]
    oom_killed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What the engine says of itself. `memory` in bytes."""

    version: str
    api_version: str
    remapped: bool
    cpus: int
    memory: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineEvent:
    """Something happened to a container of ours: `action` is start, die, destroy, oom …"""

    action: str
    container: str
    agent: str
