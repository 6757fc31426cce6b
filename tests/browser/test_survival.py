"""An agent types on, whatever dies: each part killed alone, the supervisor, everything at once, in mid-launch."""

from __future__ import annotations

import pathlib
import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import connected, log_in, set_mark, terminal_text, type_line, types_on
from tests.support.agents import container_of, execute
from tests.support.fixtures import Person
from tests.support.machine import Traces, docker, run, same_traces
from tests.support.service import Service, wait_for
from tests.support.survival import (
    ENGINE,
    PARTS,
    engine_answers,
    engine_pid,
    kill,
    kill_part,
    launch_and_eject,
    one_of_each,
    pid_of,
    supervisor_is_gone,
    supervisor_pid,
)
from tests.support.web import WebClient


@pytest.fixture(scope="module")
def project(owner: Person) -> pathlib.Path:
    return owner.directory("surviving-project")


@pytest.fixture(scope="module")
def clean(service: Service) -> Traces:
    """The machine before the first agent of this module, once all is gone that another one's agents left."""
    layers = f"{service.instance.engine_dir}/data/"
    wait_for("containers to go", lambda: layers not in _shown_mounts())
    return Traces.of(service.instance)


def _shown_mounts() -> str:
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return "\n".join(line for line in lines if "/overlay2/" in line)


@pytest.fixture(scope="module")
def agent(service: Service, owner: Person, project: pathlib.Path, clean: Traces) -> Iterator[str]:
    """A running agent of alice's; its key."""
    found = WebClient(service)
    found.log_in(owner.name, owner.password)
    key = found.launch([(str(project), "/workspace/project", "rw")])
    yield key
    again = WebClient(service)
    again.log_in(owner.name, owner.password)
    if again.state(key) == "Running":
        again.eject(key)


@pytest.fixture
def terminal(service: Service, page: Page, owner: Person, agent: str) -> Page:
    """Alice's window onto the agent, with a variable set in its shell."""
    log_in(page, owner)
    page.goto(f"/agents/{agent}")
    set_mark(page)
    return page


@pytest.mark.parametrize("part", PARTS)
def test_an_agent_types_on_after_a_part_was_killed(
    service: Service, terminal: Page, web: WebClient, agent: str, project: pathlib.Path, part: str
) -> None:
    container = container_of(service.instance, agent)
    before = Traces.of(service.instance)
    kill_part(service, part)
    types_on(terminal, part)
    assert container_of(service.instance, agent) == container
    launch_and_eject(web, project)
    same_traces(service.instance, before)
    one_of_each(service)
    types_on(terminal, "again")


def test_an_agent_goes_on_without_a_supervisor_and_the_next_one_adopts_it(
    service: Service, terminal: Page, web: WebClient, agent: str, project: pathlib.Path
) -> None:
    container, before = container_of(service.instance, agent), Traces.of(service.instance)
    engine = {program: engine_pid(service.instance, program) for program in ENGINE}
    type_line(terminal, "(while :; do date +%s.%N > alive; sleep 0.1; done) & echo beating-$((1+1))")
    terminal_text(terminal, "beating-2")
    kill(supervisor_pid(service))
    supervisor_is_gone(service)
    alive = project / "alive"
    seen = alive.read_text()
    wait_for("the agent to go on without the service", lambda: alive.read_text() not in ("", seen))
    service.start("--insecure-http")
    assert {program: engine_pid(service.instance, program) for program in ENGINE} == engine, "it was adopted"
    types_on(terminal, "adopted")
    type_line(terminal, "kill %1")
    assert container_of(service.instance, agent) == container
    launch_and_eject(web, project)
    same_traces(service.instance, before)
    one_of_each(service)


def test_after_everything_was_killed_the_next_start_is_clean_and_adopts_the_agent(
    service: Service, terminal: Page, web: WebClient, agent: str, project: pathlib.Path
) -> None:
    container, before = container_of(service.instance, agent), Traces.of(service.instance)
    kill(supervisor_pid(service), *(pid_of(service, part) for part in PARTS))
    supervisor_is_gone(service)
    assert not any(engine_pid(service.instance, program) for program in ENGINE)
    service.start("--insecure-http")
    types_on(terminal, "adopted")
    assert container_of(service.instance, agent) == container
    launch_and_eject(web, project)
    same_traces(service.instance, before)
    one_of_each(service)


@pytest.mark.parametrize("step", ["stage", "networks", "containers"])
@pytest.mark.parametrize("parts", [("runner",), ("dockerd",), ("broker",), ("supervisor", *PARTS)], ids=lambda p: p[0])
def test_a_launch_that_dies_with_its_process_is_finished_or_leaves_nothing(
    service: Service, web: WebClient, agent: str, project: pathlib.Path, parts: tuple[str, ...], step: str
) -> None:
    before = Traces.of(service.instance)
    answer = web.launch_form([(str(project), "/workspace/project", "rw")])
    key = re.search(r"/agents/([0-9a-f]{32})", answer.url)
    assert key, answer.text
    _kill_at(service, before, step, parts)
    if "supervisor" in parts:
        service.start("--insecure-http")
    web = again(service, web)
    settled = {"Running", "Failed", "Ended"}
    wait_for("the engine's answer", lambda: engine_answers(service))
    state = wait_for("the launch to settle", lambda: settled & {web.state(key[1])}, seconds=120).pop()
    if state == "Running":
        assert execute(service.instance, key[1], "echo", "alive").strip() == "alive"
        web.eject(key[1])
    same_traces(service.instance, before)
    one_of_each(service)


def again(service: Service, web: WebClient) -> WebClient:
    """The same session on connections of its own: the old ones died with the page server."""
    web.http.close()
    return web


def _kill_at(service: Service, before: Traces, step: str, parts: tuple[str, ...]) -> None:
    """Wait until a launch has left its first trace of that kind, then kill."""
    words = {"networks": ("network", "ls", "--filter", "type=custom"), "containers": ("ps", "-a")}

    def there() -> bool:
        if step == "stage":
            return frozenset(path.name for path in service.instance.stage.iterdir()) != before.stage
        return frozenset(docker(service.instance, *words[step], "-q", "--no-trunc").split()) > getattr(before, step)

    wait_for(f"the launch to reach {step}", there)  # seen a moment later: the launch is at this step or the next
    pids = [supervisor_pid(service) if part == "supervisor" else pid_of(service, part) for part in parts]
    kill(*filter(None, pids))
    if "supervisor" in parts:
        supervisor_is_gone(service)


def test_after_the_machine_went_down_nothing_is_left_and_the_rows_say_so(
    service: Service, page: Page, owner: Person, web: WebClient, agent: str, clean: Traces
) -> None:
    """Everything dies at once, containers and their shims too; what a boot clears (mounts, rules) stays even."""
    log_in(page, owner)
    page.goto(f"/agents/{agent}")
    connected(page)
    inside = docker(service.instance, "inspect", "--format", "{{.State.Pid}}", container_of(service.instance, agent))
    shims = [int(line.split()[0]) for line in run("ps", "-wweo", "pid,args").splitlines() if _our_shim(service, line)]
    assert shims
    kill(supervisor_pid(service), *(pid_of(service, part) for part in PARTS), *shims, int(inside))
    supervisor_is_gone(service)
    service.start("--insecure-http")
    expect(page.get_by_text("Ended").or_(page.get_by_text("Failed")).first).to_be_visible(timeout=60_000)
    same_traces(service.instance, clean)
    one_of_each(service)


def _our_shim(service: Service, line: str) -> bool:
    return "containerd-shim" in line and f"{service.instance.run_root}/" in line


def test_a_part_that_dies_again_and_again_ends_the_service_and_says_so(service: Service) -> None:
    """Five times in a minute is no accident; the supervisor goes in order, and the next start is as any other."""
    for _ in range(5):
        kill_part(service, "guard")
    kill(pid_of(service, "guard"))
    assert service.process is not None
    assert service.process.wait(60) == 1
    assert "does not stay up" in service.tail()
    service.process = None
    service.start("--insecure-http")
    one_of_each(service)
    assert service.process.returncode != -signal.SIGKILL
