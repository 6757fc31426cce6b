"""One run of the service: the engine, everything that must be ready first, the processes, and the way down."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from agents.host import (
    base_image,
    busybox,
    children,
    dependencies,
    first_admin,
    forwarding,
    release,
    resolvers,
    settings,
)
from agents.host.management import Django
from agents.host.own_engine import OwnEngine
from agents.host.settings import Settings
from agents.host.shell import HostError, say, step
from agents.host.supervisor import Supervisor

READY_SECONDS = 120.0
EJECT_SECONDS = 180.0


class Service:
    """One run of the service, from the engine's start to its stop."""

    def __init__(self, wanted: Settings, tree: Path, *, account: str | None, eject: bool) -> None:
        self._settings = wanted
        self._instance = wanted.instance
        self._tree = tree
        self._account, self._eject = account, eject
        self._engine = OwnEngine(self._instance)
        self._django = Django(wanted, self._tree)
        self._began = time.monotonic()
        self._failure: HostError | None = None

    def run(self) -> int:
        """Until a signal (0) or a failure (1)."""
        try:
            self._prepare()
            supervisor, listening = self._supervisor()
            try:
                reason = self._supervise(supervisor)
            finally:
                self._stop(supervisor, listening)
        finally:
            with step("stopping the engine (agents go on)"):
                self._engine.stop()
        if self._failure is not None:
            raise self._failure
        if reason not in {"SIGINT", "SIGTERM"}:
            raise HostError(f"The service stopped: {reason}.", remedy=f"Logs: {self._instance.logs}")
        say("stopped")
        return 0

    def _prepare(self) -> None:
        """The engine starts while packages are fetched and the database is made."""
        settings.save(self._settings)
        settings.secret_key(self._instance)
        static = busybox.ensure(self._instance)
        with in_background(self._start_engine) as engine:
            place = dependencies.environment(self._tree, self._instance, extra_ca=self._settings.extra_ca_file)
            release.point(self._tree / "venv", place)
            dependencies.front_end(self._tree, self._instance, extra_ca=self._settings.extra_ca_file)
            release.make_current(self._tree, self._instance)
            with step("preparing the database and the static files"):
                self._django.prepare()
            engine()
        base_image.ensure(self._engine.api, self._instance)
        if self._settings.published_construct:
            base_image.ensure_construct(self._engine.api)
        say(f"code {self._tree.name}, engine and {static.name} are there ({time.monotonic() - self._began:.1f} s)")

    def _start_engine(self) -> None:
        with step("starting the engine"):
            self._engine.start()

    def _supervisor(self) -> tuple[Supervisor, dict[str, socket.socket]]:
        listening = {name: children.bind(wanted) for name, wanted in children.listeners(self._instance).items()}
        upstreams = resolvers.noted_upstreams(self._instance)
        if upstreams:
            listening |= forwarding.bind(self._instance)
        made = Supervisor(
            children.children(self._settings, self._tree, upstreams=upstreams),
            listening=listening,
            logs=self._instance.logs,
            pids=self._instance.run_root,
            engine_dead=self._engine.dead,
            engine_start=self._engine.ensure_running,
        )
        return made, listening

    def _supervise(self, supervisor: Supervisor) -> str:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda got, _: supervisor.request_stop(signal.Signals(got).name))
        threading.Thread(target=self._get_ready, args=(supervisor,), daemon=True).start()
        reason = supervisor.run()
        for number in (signal.SIGINT, signal.SIGTERM):  # from here on a second Ctrl-C changes nothing
            signal.signal(number, signal.SIG_IGN)
        return reason

    def _get_ready(self, supervisor: Supervisor) -> None:
        """What needs the running processes; then say that it is ready."""
        try:
            with step("making the images ready"):
                self._django.follow("images")
            first_admin.ensure(self._django, asked=self._account)
            with step("waiting for the first page"):
                wait_for_page(self._settings)
            say(f"ready: {self._settings.url} ({time.monotonic() - self._began:.1f} s)")
        except HostError as error:
            self._failure = error
            supervisor.request_stop("it could not be made ready")

    def _stop(self, supervisor: Supervisor, listening: dict[str, socket.socket]) -> None:
        if self._eject:
            with step("stopping the agents"):
                try:
                    self._django.manage("eject_all", timeout=EJECT_SECONDS)
                except HostError as error:
                    say(str(error))
        with step("stopping the processes"):
            supervisor.stop()
        for wanted in children.listeners(self._instance).values():
            wanted.path.unlink(missing_ok=True)
        for sock in listening.values():
            sock.close()


@contextlib.contextmanager
def in_background(work: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Run `work` beside the block; calling what is yielded waits for it and raises what it raised."""
    failures: list[BaseException] = []

    def keep() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=keep)
    thread.start()

    def join() -> None:
        thread.join()
        if failures:
            raise failures[0]

    try:
        yield join
    finally:
        thread.join()


def wait_for_page(wanted: Settings) -> None:
    """Until the login page answers. Raises HostError after two minutes."""
    limit = time.monotonic() + READY_SECONDS
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if page_status(wanted) < 400:
                return
        if time.monotonic() > limit:
            raise HostError(
                f"{wanted.url} does not answer after {READY_SECONDS:.0f} s.",
                remedy=f"Look into {wanted.instance.logs}/daphne.log",
            )
        time.sleep(0.1)


def page_status(wanted: Settings) -> int:
    """The status of the login page."""
    connection = http.client.HTTPConnection(wanted.host, wanted.instance.port, timeout=10)
    try:
        connection.request("GET", "/login", headers={"Host": f"localhost:{wanted.instance.port}"})
        return connection.getresponse().status
    finally:
        connection.close()
