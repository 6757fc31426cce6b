"""`scripts/serve`: from a bare machine to a running service, and down again."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.host import children, layout, packages, pam_service, release, settings, users
from agents.host.instance import BadInstance, Instance
from agents.host.service import Service
from agents.host.settings import Settings
from agents.host.shell import HostError, say

TREE = Path(__file__).resolve().parents[2]
PORT_SECONDS = 5.0


def parser() -> argparse.ArgumentParser:
    """The options; `scripts/serve --help` shows them."""
    made = argparse.ArgumentParser(
        prog="serve",
        description="Installs what is missing, starts the service and keeps it running until Ctrl-C. Needs root.",
        epilog="Ctrl-C stops the service; agents go on and are there again after the next start.",
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    made.add_argument("--port", type=int, help="port to listen on (default: JACKIN_PORT or 8000)")
    made.add_argument("--account", metavar="NAME", help="Unix account of the first administrator")
    made.add_argument("--eject", action="store_true", help="stop the agents too when the service is stopped")
    made.add_argument("--insecure-http", action="store_true", help="allow several web accounts without TLS")
    made.add_argument(
        "--extra-ca", metavar="PATH", default=settings.default_extra_ca(os.environ),
        help="certificates (PEM) that this network needs, also inside agents "
             "(default: JACKIN_EXTRA_CA, else NODE_EXTRA_CA_CERTS; empty: none)",
    )  # fmt: skip
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 after Ctrl-C or SIGTERM, 1 for a failure, 2 for wrong usage."""
    arguments = parser().parse_args(argv)
    if os.geteuid() != 0:
        say("serve: needs root: it makes mounts, a network namespace, firewall rules and system accounts.")
        return 2
    os.umask(0o077)
    # SIGTERM while setting up is like Ctrl-C: what was begun is undone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        instance = Instance.from_env(os.environ | ({"JACKIN_PORT": str(arguments.port)} if arguments.port else {}))
        return _serve(arguments, instance)
    except BadInstance as error:
        say(f"serve: {error}")
        return 2
    except HostError as error:
        say(f"serve: {error}")
        return 1
    except KeyboardInterrupt:
        say("serve: stopped")
        return 1


def check_listen(arguments: argparse.Namespace, instance: Instance) -> None:
    """Cookies and passwords would cross the network in the clear. Raises HostError."""
    loopback = arguments.host in {"127.0.0.1", "::1", "localhost"}
    if not loopback and not arguments.insecure_http:
        raise HostError(
            f"--host {arguments.host} without TLS would send passwords in the clear.",
            remedy="Listen on 127.0.0.1 and use `ssh -L`, or say --insecure-http if the network is yours alone.",
        )
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    limit = time.monotonic() + PORT_SECONDS  # the page server of a killed supervisor may be on its way out
    while problem := _bind_problem(family, arguments.host, instance.port):
        if time.monotonic() > limit:
            message = f"{arguments.host}:{instance.port} cannot be used: {problem}."
            raise HostError(message, remedy="Give --port NUMBER.")
        time.sleep(0.2)


def _bind_problem(family: socket.AddressFamily, host: str, port: int) -> str:
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _serve(arguments: argparse.Namespace, instance: Instance) -> int:
    packages.ensure()
    users.ensure_users()
    pam_service.ensure()
    if not release.installed(TREE, instance):
        _run_installed_copy(instance)
    layout.ensure(layout.table(instance))
    layout.check_database(instance)
    with locked(instance):
        check_listen(arguments, instance)  # after the lock: a second supervisor hears of the first, not of its port
        wanted = Settings(
            instance=instance,
            host=arguments.host,
            insecure_http=arguments.insecure_http,
            extra_ca=settings.keep_extra_ca(instance, arguments.extra_ca),
            published_construct=os.environ.get("JACKIN_PUBLISHED_CONSTRUCT", "") not in {"", "0"},
        )
        return Service(wanted, TREE, account=arguments.account, eject=arguments.eject).run()


def _run_installed_copy(instance: Instance) -> None:
    """Go on in the root-owned copy of this tree: nothing that an ordinary user can change is run from here on."""
    copy = release.install(TREE, instance)
    env = dict(os.environ) | {"PYTHONPATH": str(copy)}
    words = ["-P", "-s", "-B", "-m", "agents.host.serve", *sys.argv[1:]]
    os.chdir("/")
    os.execve(children.PYTHON, [children.PYTHON, *words], env)  # noqa: S606 - the point is to become that program


@contextlib.contextmanager
def locked(instance: Instance) -> Iterator[None]:
    """Only one supervisor per instance. Raises HostError naming the other one."""
    descriptor = os.open(instance.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.read(descriptor, 32).decode(errors="replace").strip()
            raise HostError(
                f"The service {instance.name} runs already (process {pid}).",
                remedy="Stop that one first, or set JACKIN_INSTANCE to another name.",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
