"""An ordinary Docker engine and a system containerd on the same machine: neither of us two touches the other."""

from __future__ import annotations

import json
import pathlib
import socket
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.pages import log_in, set_mark, types_on
from tests.support.agents import address_of, execute
from tests.support.fixtures import Person
from tests.support.machine import docker, run
from tests.support.ordinary_engine import IMAGE, SYSTEM_CONTAINERD, OrdinaryEngine, ordinary_engine
from tests.support.service import Service, wait_for
from tests.support.survival import kill_part, launch_and_eject, one_of_each
from tests.support.web import WebClient

CTR = ("ctr", "--address", str(SYSTEM_CONTAINERD))
PORT = 7070


@pytest.fixture(scope="module")
def project(owner: Person) -> pathlib.Path:
    return owner.directory("project-beside-others")


@pytest.fixture
def ordinary(service: Service) -> Iterator[OrdinaryEngine]:
    """With a container that answers, a volume and a network of its own."""
    with ordinary_engine() as engine:
        engine.docker("network", "create", "jkt-others")
        engine.docker("volume", "create", "jkt-others")
        answer = ["busybox", "nc", "-ll", "-p", str(PORT), "-e", "busybox", "echo", "heard"]
        engine.docker("run", "-d", "--name", "jkt-others", "--volume", "jkt-others:/tmp", IMAGE, *answer)
        yield engine
        engine.docker("rm", "--force", "--volumes", "jkt-others")


def heard(engine: OrdinaryEngine) -> bool:
    """Whether the host reaches the ordinary engine's container."""
    found = json.loads(engine.docker("inspect", "jkt-others"))[0]
    try:
        with socket.create_connection((found["NetworkSettings"]["IPAddress"], PORT), timeout=2) as client:
            return client.recv(16).startswith(b"heard")
    except OSError:
        return False


def of_others(engine: OrdinaryEngine) -> dict[str, object]:
    """All that there is of the ordinary engine and of the system's containerd."""
    spaces = run(*CTR, "namespaces", "ls", "-q").split()
    kinds = ("containers", "images", "tasks", "snapshots")
    inspected = json.loads(engine.docker("inspect", "jkt-others"))[0]
    return {
        **engine.objects(),
        "container": (inspected["State"]["Pid"], inspected["State"]["StartedAt"], inspected["RestartCount"]),
        "containerd": {(space, kind): run(*CTR, "-n", space, kind, "ls") for space in spaces for kind in kinds},
        "rules": [line for line in _rules() if "JW-" not in line],
        "policies": [line for line in _rules() if line.startswith("-P")],
    }


def _rules() -> list[str]:
    tables = ("filter", "nat", "mangle")
    return [f"{table} {line}" for table in tables for line in run("iptables", "-w", "-t", table, "-S").splitlines()]


def test_nothing_that_we_do_touches_another_engine_or_the_system_s_containerd(
    service: Service, web: WebClient, ordinary: OrdinaryEngine, project: pathlib.Path
) -> None:
    wait_for("the ordinary engine's container", lambda: heard(ordinary))
    before = of_others(ordinary)
    assert "moby" in str(before["containerd"])

    def untouched() -> None:
        assert of_others(ordinary) == before
        assert heard(ordinary)

    launch_and_eject(web, project)
    untouched()
    for part in ("dockerd", "containerd", "runner", "guard"):
        kill_part(service, part)
    launch_and_eject(web, project)
    untouched()
    web.launch([(str(project), "/workspace/project", "rw")])
    service.stop()
    untouched()
    service.start("--insecure-http", "--eject")
    untouched()
    service.stop()  # ejects the agent, and with the last one namespace and rules go
    untouched()
    service.start("--insecure-http")
    ours = ("--filter", f"label=jackin.instance={service.instance.name}")
    assert docker(service.instance, "ps", "-a", *ours, "--format", "{{.Names}} {{.Status}}") == ""
    web.http.close()
    launch_and_eject(web, project)
    one_of_each(service)
    untouched()


def reached(service: Service, key: str) -> bool:
    """Whether the host gets a byte from a listener in the agent."""
    try:
        with socket.create_connection((address_of(service.instance, key), PORT), timeout=2) as client:
            return bool(client.recv(16))
    except OSError:
        return False


def test_an_ordinary_engine_that_comes_and_goes_leaves_our_agents_typing_and_unreached(
    service: Service, page: Page, web: WebClient, owner: Person, project: pathlib.Path
) -> None:
    key = web.launch([(str(project), "/workspace/project", "rw")])
    try:
        log_in(page, owner)
        page.goto(f"/agents/{key}")
        set_mark(page)
        answer = (
            f"import socket\ns=socket.create_server(('0.0.0.0',{PORT}))\nwhile 1: s.accept()[0].sendall(b'heard')\n"
        )
        execute(service.instance, key, "python3", "-c", answer, detach=True)
        ask = f"import socket;print(socket.create_connection(('{address_of(service.instance, key)}',{PORT})).recv(9))"
        wait_for("the listener", lambda: "heard" in execute(service.instance, key, "python3", "-c", ask))
        for number in range(2):  # the second time it is a restart
            with ordinary_engine() as engine:
                types_on(page, f"beside{number}")
                assert not reached(service, key)
                knock = ["busybox", "nc", "-w", "2", address_of(service.instance, key), str(PORT)]
                assert "heard" not in engine.docker("run", "--rm", IMAGE, *knock, check=False)
            types_on(page, f"after{number}")
            assert not reached(service, key)
        assert "heard" in execute(service.instance, key, "python3", "-c", ask), "it was there all the time"
    finally:
        web.eject(key)
    one_of_each(service)
