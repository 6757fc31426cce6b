"""Many agents ended at once on the running service: by root's command, and from the page across a killed runner."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from agents.operations.exiling import GRACE
from tests.support.agents import container_of
from tests.support.fixtures import Person, logged_in
from tests.support.machine import Traces, docker, run, same_traces
from tests.support.service import Service, wait_for
from tests.support.web import WebClient

pytestmark = pytest.mark.live


@pytest.fixture
def projects(owner: Person, colleague: Person) -> Iterator[dict[str, str]]:
    found = {person.name: str(person.directory("exile-project", mode="0700")) for person in (owner, colleague)}
    yield found
    for path in found.values():
        run("rm", "-rf", "--one-file-system", path)


def launch(web: WebClient, project: str, *, many: int = 1) -> list[str]:
    return [web.launch([(project, "/workspace/project", "rw")]) for _ in range(many)]


def test_root_ends_one_persons_agents_and_nobody_elses(
    service: Service, owner: Person, colleague: Person, projects: dict[str, str]
) -> None:
    alice, bob = logged_in(service, owner), logged_in(service, colleague)
    hers, (his,) = launch(alice, projects["alice"], many=2), launch(bob, projects["bob"])
    try:
        done = service.manage("exile", "--person", "alice")
        assert (done.returncode, done.stdout) == (0, "no agent of alice is left\n"), done.stderr
        assert [alice.state(key) for key in hers] == ["Ended", "Ended"]
        assert [container_of(service.instance, key) for key in hers] == ["", ""]
        assert bob.state(his) == "Running"
        wrong = service.manage("exile", "--person", "nobody-of-that-name")
        assert (wrong.returncode, "nobody-of-that-name" in wrong.stderr) == (1, True)
    finally:
        bob.eject(his)


def test_an_exile_goes_on_after_its_runner_was_killed(
    service: Service, owner: Person, projects: dict[str, str]
) -> None:
    before = Traces.of(service.instance)
    web = logged_in(service, owner)
    keys = launch(web, projects["alice"], many=3)
    for key in keys:  # they take their whole grace: the runner dies in the middle of it
        stubborn = ["sh", "-c", "kill -STOP $(pidof zsh)"]
        docker(service.instance, "exec", container_of(service.instance, key), *stubborn)
    began = time.monotonic()
    answer = web.post("/exile", {})
    assert re.search(r"/operations/[0-9a-f-]{36}$", answer.url), answer.text
    wait_for("the exile to begin", lambda: {web.state(key) for key in keys} == {"Ejecting"})
    service.kill_child("runner")
    wait_for("the end of all", lambda: {web.state(key) for key in keys} == {"Ended"}, seconds=60)
    assert time.monotonic() - began < 3 * GRACE, "one after the other, not side by side"
    same_traces(service.instance, before)
    page = web.get(answer.url.removeprefix(service.url)).text
    assert "attempt 2" in page
    assert page.count(": done</span>") == 3
