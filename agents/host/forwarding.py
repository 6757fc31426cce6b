"""The forwarder's sockets in the agents' namespace, and its process outside of the supervisor."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from agents.broker import syscalls
from agents.host import netns, resolvers
from agents.host.dns_forwarder import PORT
from agents.host.instance import USER_DNS, Instance
from agents.host.shell import HostError, as_user, base_env

PYTHON = "/usr/bin/python3"
SOCKETS = {"JACKIN_FD_DNS_UDP": "dns-udp", "JACKIN_FD_DNS_TCP": "dns-tcp"}
BIND_SECONDS = 5.0  # the forwarder of a killed supervisor may be on its way out
BUFFER = 1 << 20
END_SECONDS = 5.0


def argv() -> list[str]:
    """The forwarder, as an account that has no file, no socket and no right of its own."""
    return as_user(USER_DNS, [PYTHON, "-P", "-s", "-m", "agents.host.dns_forwarder"], umask=0o077)


def env(upstreams: tuple[str, ...]) -> dict[str, str]:
    """What it is told."""
    return {"JACKIN_DNS_UPSTREAMS": " ".join(upstreams)}


def bind(instance: Instance) -> dict[str, socket.socket]:
    """The two sockets, in the agents' namespace; the processes that inherit them stay outside. Raises HostError."""
    addresses = netns.noted(instance)
    if addresses is None or not netns.is_up(instance):
        raise HostError(f"The network namespace {instance.netns} is not there.")
    limit = time.monotonic() + BIND_SECONDS
    while True:
        try:
            return _bound_in(netns.path(instance), str(addresses.inner))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > limit:
                raise HostError(f"No socket for names on {addresses.inner}: {error.strerror}.") from error
        time.sleep(0.1)


def _bound_in(namespace: Path, address: str) -> dict[str, socket.socket]:
    """A socket belongs to the namespace of the thread that makes it; the thread ends with having made them."""
    made: dict[str, socket.socket] = {}
    failures: list[OSError] = []

    def make() -> None:
        try:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.enter_network_namespace(descriptor)
            finally:
                os.close(descriptor)
            for name, kind in (("dns-udp", socket.SOCK_DGRAM), ("dns-tcp", socket.SOCK_STREAM)):
                made[name] = _bound(kind, address)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failures:
        for sock in made.values():
            sock.close()
        raise failures[0]
    return made


def _bound(kind: socket.SocketKind, address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.bind((address, PORT))
        if kind == socket.SOCK_STREAM:
            sock.listen(socket.SOMAXCONN)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def running(instance: Instance, tree: Path) -> Iterator[None]:
    """The forwarder for the time of the block, for a doctor without a service; nothing where it is not needed."""
    upstreams = resolvers.noted_upstreams(instance)
    if not upstreams:
        yield
        return
    listening = bind(instance)
    try:
        process = _start(listening, upstreams, tree)
        try:
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.kill()
            process.wait()
    finally:
        for sock in listening.values():
            sock.close()


def _start(listening: Mapping[str, socket.socket], upstreams: tuple[str, ...], tree: Path) -> subprocess.Popen[bytes]:
    numbers = {variable: listening[name].fileno() for variable, name in SOCKETS.items()}
    inherited = {variable: str(number) for variable, number in numbers.items()}
    return subprocess.Popen(
        argv(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=base_env() | env(upstreams) | inherited | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        pass_fds=tuple(numbers.values()),
        start_new_session=True,
    )
