"""An agent's container: what the engine is told (a pure function) and the calls for its life."""

from __future__ import annotations

import pathlib
import resource
import time
from collections.abc import Iterable, Mapping
from typing import Any

from docker import DockerClient
from docker import errors as sdk_errors
from docker.models.containers import Container
from docker.types import LogConfig, Mount, Ulimit

from agents.engine.api import GATE_DIR, SECRETS_DIR, STATE_DIR
from agents.engine.errors import Conflict, EngineError, NotFound
from agents.engine.types import LABEL_AGENT, LABEL_INSTANCE, LABEL_OPERATION, ContainerInfo, LaunchSpec, Staging

USER = "1000:1000"

# With these `sudo apt-get install` works. Not MKNOD, NET_RAW, SETFCAP, SYS_CHROOT, which Docker would give.
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "AUDIT_WRITE",
    "NET_BIND_SERVICE",
)

# Variables of an image that change what loaders and shells run before the entrypoint; None takes them out.
NEVER_INHERITED = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GLIBC_TUNABLES", "BASH_ENV", "ENV")

LOG = LogConfig(type="local", config={"max-size": "4m", "max-file": "2", "compress": "false"})
REMOVAL_SECONDS = 60
NAME_SECONDS = 5
CONTAINERD_SECONDS = 10.0  # it tries every 3 s at the latest
CONTAINERD_AWAY = "Error while dialing"  # gRPC's words for it
EXEC_SECONDS = 5


def mounts(staging: Staging) -> list[Mount]:
    """The staged directories as bind mounts; parents before children, so that none hides another."""
    wanted = [(GATE_DIR, staging.gate, True), (SECRETS_DIR, staging.secrets, False)]
    wanted += [(STATE_DIR, staging.state, False)] if staging.state else []
    wanted += [(m.destination, m.staged, m.mode == "ro") for m in staging.mounts]
    return [
        Mount(target=target, source=source, type="bind", read_only=read_only, propagation="rprivate")
        for target, source, read_only in sorted(wanted)
    ]


def environment(spec: LaunchSpec, *, image_names: Iterable[str] = ()) -> list[str]:
    """`NAME=value` for what is set, a bare `NAME` for what the image (`image_names`) must not set."""
    never = {*NEVER_INHERITED, *(name for name in image_names if name.startswith("LD_"))}
    values = {**spec.env, "JACKIN_WORKDIR": spec.workdir}
    return sorted(never - set(values)) + [f"{name}={value}" for name, value in sorted(values.items())]


def most_files() -> int:
    """The hard limit of open files that the engine can give: it cannot raise its own without CAP_SYS_RESOURCE.

    Engine and runner are started by the same supervisor, so the runner's own limit is the engine's.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 1_048_576


def container_kwargs(
    spec: LaunchSpec, *, instance: str, image_names: Iterable[str] = (), ceiling: int = 1_048_576
) -> dict[str, Any]:
    """All that the engine is told about the agent's container; the policy of DESIGN.md §5, nothing else decides.

    Not set on purpose: `no-new-privileges`. It would turn off the set-uid bit of sudo, and an agent installs
    packages. What sudo gives is root of the container, which is nobody on the host and holds CAPABILITIES only.
    The working directory is `/`, not the project: it must not be looked at before the gate opened.
    `ceiling` is the most open files that the engine can grant.
    """
    return {
        "image": spec.image,
        "name": spec.name,
        "hostname": spec.hostname,
        "entrypoint": [f"{GATE_DIR}/busybox", "sh", f"{GATE_DIR}/gate"],
        "command": list(spec.argv),
        "environment": environment(spec, image_names=image_names),
        "working_dir": "/",
        "user": USER,
        "group_add": [str(group) for group in spec.staging.groups],
        "labels": {LABEL_INSTANCE: instance, LABEL_AGENT: spec.agent, LABEL_OPERATION: spec.operation},
        "tty": True,
        "stdin_open": True,
        "mounts": mounts(spec.staging),
        "network": spec.network,
        **_limits(spec, ceiling=ceiling),
        **_isolation(),
        **_lifecycle(),
    }


def _limits(spec: LaunchSpec, *, ceiling: int) -> dict[str, Any]:
    limits = spec.limits
    files = min(limits.nofile, ceiling)
    return {
        "mem_limit": limits.memory,
        "memswap_limit": limits.memory,  # memory and swap together: no swap on top
        "nano_cpus": round(limits.cpus * 1_000_000_000),
        "pids_limit": limits.pids,
        "ulimits": [
            Ulimit(name="nofile", soft=files, hard=files),
            Ulimit(name="core", soft=0, hard=0),
        ],
        "shm_size": 256 * 1024 * 1024,  # browsers need more than 64 MB; it counts as the container's memory
        "oom_score_adj": 300,  # an agent goes before the host's own services
    }


def _isolation() -> dict[str, Any]:
    return {
        "privileged": False,
        "cap_drop": ["ALL"],
        "cap_add": list(CAPABILITIES),
        "security_opt": [],
        "devices": [],
        "ipc_mode": "private",
        "cgroupns": "private",
        "publish_all_ports": False,
    }


def _lifecycle() -> dict[str, Any]:
    return {
        "init": False,  # the gate must be the first process; the entrypoint brings a reaper
        "healthcheck": {"test": ["NONE"]},
        "restart_policy": {"Name": "no"},
        "auto_remove": False,
        # A terminal's programs end at its hang-up; an interactive shell ignores SIGTERM.
        "stop_signal": "SIGHUP",
        "log_config": LOG,
    }


def find(client: DockerClient, name_or_id: str, *, instance: str) -> Container:
    """The container, if it is this instance's. Raises NotFound for another's too: for us it does not exist."""
    container = client.containers.get(name_or_id) if name_or_id else None
    if container is None or container.labels.get(LABEL_INSTANCE) != instance:
        raise NotFound(f"There is no container {name_or_id!r} of this service.")
    return container


def foreign(client: DockerClient, name_or_id: str, *, instance: str) -> bool:
    """Whether the name is taken by a container that is not ours."""
    if not name_or_id:
        return False
    try:
        return bool(client.containers.get(name_or_id).labels.get(LABEL_INSTANCE) != instance)
    except sdk_errors.NotFound:
        return False


def info(container: Container) -> ContainerInfo:
    """The container as its last inspect saw it."""
    state: Mapping[str, Any] = container.attrs["State"]
    status = state["Status"]
    ended = status in ("exited", "dead")
    return ContainerInfo(
        id=str(container.id),
        name=str(container.name),
        status=status,
        pid=int(state.get("Pid") or 0),
        exit_code=int(state.get("ExitCode") or 0) if ended else None,
        labels=dict(container.labels),
        oom_killed=bool(state.get("OOMKilled")),
    )


def start(container: Container) -> None:
    """Start it; patient with an engine that has not found its containerd again yet, after that was restarted."""
    until = time.monotonic() + CONTAINERD_SECONDS
    while True:
        try:
            container.start()
        except sdk_errors.APIError as error:
            if CONTAINERD_AWAY not in str(error.explanation) or time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def pause(container: Container) -> None:
    """Freeze it if it runs."""
    _unless(container, "pause", "running")


def unpause(container: Container) -> None:
    """Thaw it if it is frozen."""
    _unless(container, "unpause", "paused")


def _unless(container: Container, act: str, status: str) -> None:
    """Do `act` where the container has that status; it may lose it meanwhile, by another's doing or its own end."""
    if container.status != status:
        return
    try:
        getattr(container, act)()
    except sdk_errors.APIError:
        try:
            container.reload()
        except sdk_errors.NotFound:
            return
        if container.status == status:
            raise


def wait_for_program(pid: int) -> None:
    """Wait until the first program of a started container runs.

    The engine says `running` when runc is told to go on; its last step, the exec, may still be under way, and
    whoever looks at the process then sees no command line, or runc's own.
    """
    until = time.monotonic() + EXEC_SECONDS
    while time.monotonic() < until:
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return  # it has ended, or this host hides processes
        if words[0] and words[1:2] != [b"init"]:
            return
        time.sleep(0.01)


def create(client: DockerClient, spec: LaunchSpec, *, instance: str) -> str:
    """Create the container, or return the one that the same operation has made."""
    try:
        image = client.images.get(spec.image)
    except sdk_errors.ImageNotFound as error:
        raise NotFound(f"The image {spec.image} does not exist.", remedy="Run `manage.py images`.") from error
    names = [entry.partition("=")[0] for entry in (image.attrs.get("Config") or {}).get("Env") or []]
    kwargs = container_kwargs(spec, instance=instance, image_names=names, ceiling=most_files())
    until = time.monotonic() + NAME_SECONDS
    while True:
        existing = _same_operation(client, spec, instance=instance)
        if existing is not None:
            return existing
        try:
            return str(client.containers.create(**kwargs).id)
        except sdk_errors.APIError as error:
            # A name is taken some time before its container can be looked at, and some time after it is gone.
            if error.status_code != 409 or time.monotonic() > until:
                raise
        time.sleep(0.1)


def _same_operation(client: DockerClient, spec: LaunchSpec, *, instance: str) -> str | None:
    try:
        found = client.containers.get(spec.name)
    except sdk_errors.NotFound:
        return None
    if (found.labels.get(LABEL_INSTANCE), found.labels.get(LABEL_OPERATION)) != (instance, spec.operation):
        raise Conflict(f"The container name {spec.name} is taken by something else.", remedy="Remove that container.")
    return str(found.id)


def remove(client: DockerClient, container_id: str) -> None:
    """Remove it with its anonymous volumes and wait until it is gone."""
    until = time.monotonic() + REMOVAL_SECONDS
    while True:
        try:
            client.api.remove_container(container_id, v=True, force=True)
        except sdk_errors.NotFound:
            return
        except sdk_errors.APIError as error:  # 409: another removal is under way
            if error.status_code != 409:
                raise
        try:
            client.api.inspect_container(container_id)
        except sdk_errors.NotFound:
            return
        if time.monotonic() > until:
            raise EngineError(f"The container {container_id[:12]} is there {REMOVAL_SECONDS} s after its removal.")
        time.sleep(0.1)
