"""The processes of the service: what each runs, as whom, with which socket."""

from __future__ import annotations

import dataclasses
import grp
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from agents.host import forwarding
from agents.host.instance import USER_ARCH, USER_RUN, USER_TERM, USER_WEB, Instance
from agents.host.settings import Settings, child_env
from agents.host.shell import as_user, base_env

PYTHON = forwarding.PYTHON
BACKLOG = 1024  # as many as the broker talks to at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Child:
    """One process. `sockets` maps the variable that names its inherited descriptor to the socket's name."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    sockets: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listener:
    """A listening unix socket; made once, inherited by each new life of its process, so that connects queue."""

    path: Path
    group: str
    kind: socket.SocketKind = socket.SOCK_STREAM
    mode: int = 0o660


def listeners(instance: Instance) -> dict[str, Listener]:
    """The sockets that the supervisor binds, by name."""
    return {
        "broker": Listener(path=instance.broker_socket, group=USER_RUN),
        "pam": Listener(path=instance.pam_socket, group="root", mode=0o600),
        "guard": Listener(path=instance.guard_socket, group=USER_RUN),
        "archiver": Listener(path=instance.archiver_socket, group=USER_RUN),
        "feed": Listener(path=instance.feed_socket, group=USER_RUN, kind=socket.SOCK_SEQPACKET),
        "runner": Listener(path=instance.runner_socket, group=USER_WEB),
        "terminals": Listener(path=instance.terminals_socket, group=USER_WEB),
    }


def bind(listener: Listener) -> socket.socket:
    """Bind and listen; root and the group may connect, from the first moment on."""
    listener.path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, listener.kind)
    old = os.umask(0o777)  # nobody can connect before owner and mode are right
    try:
        sock.bind(str(listener.path))
    finally:
        os.umask(old)
    os.chown(listener.path, 0, grp.getgrnam(listener.group).gr_gid)
    os.chmod(listener.path, listener.mode)
    sock.listen(BACKLOG)
    return sock


def pamela(release: Path) -> str:
    """The one file of a package that root runs: it is imported by its path, and nothing beside it."""
    return f"{release}/venv/lib/python3.{sys.version_info.minor}/site-packages/pamela.py"


def children(settings: Settings, release: Path, *, upstreams: tuple[str, ...] = ()) -> tuple[Child, ...]:
    """All processes, in the order of starting; they are stopped in the reverse order.

    Where the forwarder is needed, `upstreams` are the resolvers that it asks.
    """
    python = f"{release}/venv/bin/python"
    plain, secret = child_env(settings, secret=False), child_env(settings, secret=True)
    root_env = plain | {"PYTHONPATH": str(release)}
    root = ["/usr/bin/setpriv", "--pdeathsig=TERM", PYTHON, "-P", "-s", "-m"]
    web = [f"{release}/venv/bin/daphne", "-b", settings.host, "-p", str(settings.instance.port)]
    web += ["--websocket_timeout", "-1", "--application-close-timeout", "5", "jackin_web.asgi:application"]
    runner = [python, f"{release}/manage.py", "runner"]
    # 007: the database is shared by the two members of its group; everything else is for the process alone.
    found = (
        Child(name="broker", argv=(*root, "agents.broker"), env=root_env, cwd=release,
              sockets={"JACKIN_FD_BROKER": "broker"}),
        Child(name="pam", argv=(*root, "agents.pam"), env=root_env | {"JACKIN_PAMELA": pamela(release)}, cwd=release,
              sockets={"JACKIN_FD_PAM": "pam"}),
        Child(name="guard", argv=(*root, "agents.host.guard"), env=root_env, cwd=release,
              sockets={"JACKIN_FD_GUARD": "guard"}),
        Child(name="terminals", argv=tuple(as_user(USER_TERM, [python, "-P", "-m", "agents.terminals"], umask=0o077)),
              env=plain | {"PYTHONPATH": str(release)}, cwd=release,
              sockets={"JACKIN_FD_TERMINALS": "terminals", "JACKIN_FD_FEED": "feed"}),
        Child(name="archiver", argv=tuple(as_user(USER_ARCH, [python, "-P", "-m", "agents.archiver"], umask=0o077)),
              env=plain | {"PYTHONPATH": str(release)}, cwd=release, sockets={"JACKIN_FD_ARCHIVER": "archiver"}),
        Child(name="runner", argv=tuple(as_user(USER_RUN, runner, umask=0o007)), env=secret, cwd=release,
              sockets={"JACKIN_FD_RUNNER": "runner"}),
        Child(name="daphne", argv=tuple(as_user(USER_WEB, web, umask=0o007)),
              env=secret | {"PYTHONPATH": str(release)}, cwd=release),
    )  # fmt: skip
    if not upstreams:
        return found
    dns_env = base_env() | {"PYTHONPATH": str(release), "PYTHONDONTWRITEBYTECODE": "1"} | forwarding.env(upstreams)
    argv = tuple(forwarding.argv())
    return (Child(name="dns", argv=argv, env=dns_env, cwd=release, sockets=forwarding.SOCKETS), *found)
