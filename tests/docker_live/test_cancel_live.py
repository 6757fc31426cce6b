"""A launch is cancelled inside each of its steps, also where that blocks: soon it is over, and nothing is left."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from django.db import connections

from agents.engine.types import BuildSpec, Limits
from agents.host import processes
from agents.host.engine_config import dockerd_file
from agents.models import Agent, Operation, OperationLog, OperationStep
from agents.operations.launch import STEPS
from agents.operations.lifecycle import request_cancel
from tests import factories
from tests.docker_live.broker_fixtures import ann, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit
from tests.docker_live.test_launch_leaves_nothing import FAULTS, World, launched, world  # noqa: F401
from tests.support.hanging import hanging
from tests.support.hanging_calls import Hangs
from tests.support.machine import Traces, docker, same_traces
from tests.support.service import Service, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

SOON = 15.0  # seconds after the cancel: the promise


@contextlib.contextmanager
def working(world: World) -> Iterator[None]:
    """A worker at the one open operation, in a thread as in the runner."""

    def work() -> None:
        try:
            world.work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=60)
        assert not thread.is_alive()


def cancel(launch: Operation) -> float:
    """Cancel as the owner does; how many seconds until it is over."""
    assert launch.requested_by is not None
    began = time.monotonic()
    assert request_cancel(launch.requested_by, launch.pk).is_open, "it was over before: nothing hung"
    wait_for("the end of the launch", lambda: not Operation.objects.get(pk=launch.pk).is_open, seconds=SOON)
    done = Operation.objects.get(pk=launch.pk)
    assert (done.state, done.failed_step) == ("cancelled", ""), done.error
    assert Agent.objects.get().state == "ended"
    assert not OperationStep.objects.filter(operation=launch, state__in=("running", "waiting")).exists()
    return time.monotonic() - began


def hang(world: World, part: str, call: str, *, when: Literal["before", "after"]) -> Hangs:
    """Let one call hang. A sidecar of the agent's own is one more part."""
    if part == "world":
        made = Hangs(world, call, when=when)
        world.image_for = made.image_for
    else:
        made = Hangs(getattr(world, part), call, when=when, nth=2 if call == "container" else 1)
        setattr(world, part, made)
    return made


def test_every_step_is_among_the_hanging_calls() -> None:
    assert [*dict.fromkeys(step for step, _, _ in FAULTS)] == list(STEPS)


@pytest.mark.parametrize(("step", "part", "call"), FAULTS)
def test_a_call_that_never_answers_does_not_keep_a_launch_from_being_cancelled(
    service: Service, world: World, launched: Operation, step: str, part: str, call: str
) -> None:
    before = Traces.of(service.instance)
    hung = hang(world, part, call, when="after")  # all is made already: the worst moment
    try:
        with working(world):
            assert hung.now_hangs.wait(timeout=30)
            assert Operation.objects.get().step == step
            cancel(launched)
        same_traces(service.instance, before, seconds=SOON)
    finally:
        hung.let_go()


@pytest.mark.parametrize(
    ("part", "call"),
    [("broker", "stage"), ("engine", "ensure_network")],
)
def test_what_a_call_makes_after_the_cancel_is_removed_too(
    service: Service, world: World, launched: Operation, part: str, call: str
) -> None:
    before = Traces.of(service.instance)
    hung = hang(world, part, call, when="before")
    with working(world):
        assert hung.now_hangs.wait(timeout=30)
        cancel(launched)
    hung.let_go()
    assert hung.went_on.wait(timeout=30), "it came too late to make anything: nothing was shown"
    same_traces(service.instance, before, seconds=SOON)


def building(world: World, dockerfile: str) -> None:
    """The image step builds this, on the real engine."""
    spec = BuildSpec(
        tag=f"jkfail/{secrets.token_hex(4)}:test",
        files={"Dockerfile": dockerfile.encode()},
        content=secrets.token_hex(32),
        args={},
        limits=Limits(cpus=1.0, memory=512 * 1024**2, pids=256),
    )
    engine = world.engine

    def image_for(
        folder: str, runtime: str, *, log: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> str:  # the signature of an ImageMaker
        return str(engine.build_image(spec, log=log, cancelled=cancelled))

    world.image_for = image_for


def test_a_build_step_that_hangs_is_cancelled(service: Service, world: World, launched: Operation) -> None:
    before = Traces.of(service.instance)
    building(world, "FROM jackin/base:trixie\nRUN echo output-of-a-step; sleep 1000\n")
    with working(world):
        # It is shown although nothing follows it: who waits sees where it hangs.
        wait_for("its output", lambda: OperationLog.objects.filter(text__contains="output-of-a-step").exists())
        # The output is read before the engine itself calls the container running.
        wait_for("the step", lambda: docker(service.instance, "ps", "-q", "--filter", "status=running").strip())
        cancel(launched)
    same_traces(service.instance, before, seconds=SOON)


SILENT = """
import socket
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    taken = []
    while True:
        taken.append(listener.accept()[0])
        print("asked", flush=True)
"""


@contextlib.contextmanager
def silent_registry(service: Service) -> Iterator[subprocess.Popen[str]]:
    """A listener in the engine's network namespace that takes connections and never answers."""
    inside = ["nsenter", f"--net=/run/netns/{service.instance.netns}"]
    process = subprocess.Popen([*inside, sys.executable, "-c", SILENT], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_registry_that_never_answers_is_given_up(service: Service, world: World, launched: Operation) -> None:
    with silent_registry(service) as registry:
        assert registry.stdout is not None
        port = int(registry.stdout.readline())
        before = Traces.of(service.instance)
        building(world, f"FROM 127.0.0.1:{port}/nothing/here:1\n")
        with working(world):
            assert registry.stdout.readline() == "asked\n"
            cancel(launched)
        same_traces(service.instance, before, seconds=SOON)


def test_a_file_system_that_hangs_is_given_up(
    service: Service, world: World, kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path
) -> None:
    point = make(pathlib.Path("/srv/jkt-hang-cancel"))
    (home / "link").symlink_to(point / "project")  # itself it would be refused by its name, and not even asked
    asked = factories.mount(str(home / "link"), "/workspace/project", "rw")
    launch = factories.launch(factories.person("ann"), mounts=(asked,))
    with contextlib.ExitStack() as stack:
        stack.callback(point.rmdir)
        slow = stack.enter_context(hanging(point))
        before = Traces.of(service.instance)
        with working(world):
            slow.take(1)  # the broker's child waits, and cannot be killed
            assert Operation.objects.get().step == "mounts"
            cancel(launch)
        same_traces(service.instance, before, seconds=SOON)


@pytest.mark.parametrize("call", ["ensure_network", "create_container", "start"])
def test_an_engine_that_stands_still_is_given_up_and_tidied_as_soon_as_it_goes_on(
    service: Service, world: World, launched: Operation, call: str
) -> None:
    before = Traces.of(service.instance)
    engine = processes.find(program="dockerd", argument=dockerd_file(service.instance))
    assert engine is not None
    stopped = threading.Event()
    target = world.engine

    class Stops:
        """The engine's process stands still just before the call reaches it."""

        def __getattr__(self, name: str) -> Any:
            if name == call and not stopped.is_set():
                os.kill(engine.pid, signal.SIGSTOP)
                stopped.set()
            return getattr(target, name)

    world.engine = Stops()
    try:
        with working(world):
            assert stopped.wait(timeout=30)
            cancel(launched)
            assert "Not everything could be removed yet" in Operation.objects.get().error
    finally:
        os.kill(engine.pid, signal.SIGCONT)
        engine.close()
    same_traces(service.instance, before, seconds=SOON)
