"""On the running service: while the firewall's rules are gone no agent starts; with them it does."""

from __future__ import annotations

import os
import pathlib
import re
import signal
from collections.abc import Iterator

import pytest

from agents.broker import wire
from agents.host import processes
from agents.host.engine_config import dockerd_file
from tests.support.fixtures import Person
from tests.support.machine import docker, run
from tests.support.service import Service, wait_for
from tests.support.web import WebClient

pytestmark = pytest.mark.live
# The second where something else on this machine came or went in the same moment.
SEEN = {"rules of the host were changed or removed", "the host's network changed"}
CHAIN = re.compile(r"^:(JW-jktest-\S+)", re.MULTILINE)


@pytest.fixture
def project(owner: Person) -> Iterator[str]:
    path = owner.directory("waiting-project", mode="0700")
    yield str(path)
    run("rm", "-rf", "--one-file-system", str(path))


def sides(service: Service) -> tuple[list[str], list[str]]:
    return [], ["nsenter", f"--net=/run/netns/{service.instance.netns}"]


def rules(service: Service) -> list[str]:
    """All rules of this instance, on both sides."""
    saved = [run(*inside, "iptables-save") for inside in sides(service)]
    return [line for text in saved for line in text.splitlines() if line.startswith("-A") and "JW-jktest-" in line]


def empty(service: Service) -> None:
    """Empty our chains, and only ours: the machine may have others."""
    for inside in sides(service):
        for table in ("mangle", "nat", "filter"):
            for chain in CHAIN.findall(run(*inside, "iptables-save", "-t", table)):
                run(*inside, "iptables", "-w", "-t", table, "-F", chain)


def ask(service: Service, web: WebClient, project: str) -> str:
    """Send the launch form; the agent's key."""
    answer = web.launch_form([(project, "/workspace/project", "rw")])
    found = re.search(r"/agents/([0-9a-f]{32})", answer.url)
    assert found, answer.text
    return found.group(1)


def containers(service: Service, key: str) -> str:
    return docker(service.instance, "ps", "-aq", "--filter", f"label=jackin.agent={key}")


def is_at_the_network(web: WebClient, key: str) -> bool:
    return bool(re.search(r'<li class="now" id="step-network">', web.get(f"/agents/{key}").text))


def history(service: Service) -> list[dict[str, str]]:
    reply = wire.call(service.instance.guard_socket, {"v": 1, "op": "history"}, timeout=30)
    found: list[dict[str, str]] = reply["history"]
    return found


def test_a_launch_waits_until_the_rules_stand_again(service: Service, web: WebClient, project: str) -> None:
    wanted, before = rules(service), len(history(service))
    guard = service.child("guard")
    os.kill(guard, signal.SIGSTOP)  # so that the moment without rules lasts
    try:
        empty(service)
        key = ask(service, web, project)
        wait_for("the launch to come to its network", lambda: is_at_the_network(web, key), seconds=20)
        assert containers(service, key) == ""
        assert rules(service) != wanted
    finally:
        os.kill(guard, signal.SIGCONT)
    try:
        wait_for("the agent to run", lambda: web.state(key) == "Running", seconds=60)
        assert rules(service) == wanted
        assert any(entry["what"] in SEEN for entry in history(service)[before:])
    finally:
        web.eject(key)


def test_a_launch_fails_while_the_rules_cannot_be_set(service: Service, web: WebClient, project: str) -> None:
    wanted, before = rules(service), len(history(service))
    name = pathlib.Path("/run/netns") / service.instance.netns
    engine = processes.find(program="dockerd", argument=dockerd_file(service.instance))
    assert engine is not None
    empty(service)
    run("umount", "--lazy", str(name))  # the namespace goes on, but nobody finds it by its name
    try:
        key = ask(service, web, project)
        wait_for("the launch to fail", lambda: web.state(key) == "Failed", seconds=60)
        assert containers(service, key) == ""
        page = web.get(f"/agents/{key}").text
        assert "The firewall is not complete" in page
        assert "manage.py doctor" in page
    finally:
        run("mount", "--bind", f"/proc/{engine.pid}/ns/net", str(name))
        engine.close()
    assert any(entry["what"].startswith("not repaired: ") for entry in history(service)[before:])
    key = web.launch([(project, "/workspace/project", "rw")])
    try:
        assert rules(service) == wanted
    finally:
        web.eject(key)
