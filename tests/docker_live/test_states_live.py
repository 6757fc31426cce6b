"""What agents keep, by the whole service: found again by the next launch, never shared, gone when it is purged."""

from __future__ import annotations

import pathlib
import re
import stat

import pytest

from tests.support.agents import container_of, execute
from tests.support.fixtures import Person, logged_in
from tests.support.machine import docker
from tests.support.service import Service, wait_for
from tests.support.web import STATE, WebClient

pytestmark = pytest.mark.live

MOUNT = "/workspace/project"


def state_of(web: WebClient, agent: str) -> str:
    """The key of the state on the agent's page."""
    found = re.search(r"/states/([0-9a-f]{32})", web.get(f"/agents/{agent}").text)
    assert found
    return found.group(1)


def place_of(service: Service, owner: Person, state: str) -> pathlib.Path:
    return service.instance.states / str(owner.home.stat().st_uid) / state


def name_of(service: Service, agent: str) -> str:
    return docker(service.instance, "inspect", "-f", "{{.Name}}", container_of(service.instance, agent)).strip(" /\n")


def asked(web: WebClient, page: str, state: str) -> dict[str, str]:
    """The fields of the purge form as the page shows them; the name is typed where it is asked for."""
    text = web.get(page).text
    found = re.search(r'name="shown" value="([0-9a-f]{64})"', text)
    assert found, text
    typed = re.search(r"Type <code>([^<]*)</code>", text)
    return {"state": state, "shown": found.group(1), "confirm": typed.group(1) if typed else ""}


def test_a_state_is_found_again_and_belongs_to_its_owner(service: Service, web: WebClient, owner: Person) -> None:
    project = owner.directory("states")
    first = web.launch([(str(project), MOUNT, "rw")])
    state, name = state_of(web, first), name_of(service, first)
    shell = ("zsh", "-c")
    wait_for("its directories", lambda: (place_of(service, owner, state) / "plugins.json").exists())
    said = execute(
        service.instance, first, *shell,
        'cd /jackin/state && printf %s "{\\"a\\": 1}" >.claude/.claude.json && printf %s "{\\"a\\": 2}" >new'
        " && mv new .claude/.claude.json && readlink ~/.claude ~/.config/gh && ls -A",
    )  # fmt: skip
    assert said.split() == ["/jackin/state/.claude", "/jackin/state/.config/gh", ".claude", ".config", "plugins.json"]
    place = place_of(service, owner, state)
    for part in (place, place / ".claude", place / ".config" / "gh", place / ".claude" / ".claude.json"):
        status = part.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode) & 0o077) == (owner.home.stat().st_uid, 0) or part.is_file()
    other = web.launch([(str(project), MOUNT, "rw")])
    assert name_of(service, other) != name
    assert execute(service.instance, other, "ls", "/jackin/state/plugins.json").strip() == "/jackin/state/plugins.json"
    assert execute(service.instance, other, "ls", "-A", "/jackin/state/.claude") == ""
    refused = web.launch_form([(str(project), MOUNT, "rw")], state=state)
    assert "runs already" in refused.text
    web.eject(other)
    web.eject(first)
    assert (place / ".claude" / ".claude.json").read_text() == '{"a": 2}'
    again = web.launch([(str(project), MOUNT, "rw")], state=state)
    assert (state_of(web, again), name_of(service, again)) == (state, name)
    assert execute(service.instance, again, "cat", "/jackin/state/.claude/.claude.json") == '{"a": 2}'
    web.eject(again)


def test_nobody_else_goes_on_with_it_or_purges_it(
    service: Service, web: WebClient, owner: Person, colleague: Person
) -> None:
    agent = web.launch([(str(owner.directory("states")), MOUNT, "rw")])
    state = state_of(web, agent)
    web.eject(agent)
    theirs = logged_in(service, colleague)
    refused = theirs.launch_form([(str(colleague.directory("states")), MOUNT, "rw")], state=state)
    assert "no such state of yours" in refused.text
    assert theirs.get(f"/states/{state}").status_code == 404
    assert theirs.post("/states/purge", {"state": state}, page="/account").status_code == 404
    assert place_of(service, owner, state).is_dir()


def test_a_purge_takes_files_and_row(service: Service, web: WebClient, owner: Person) -> None:
    agent = web.launch([(str(owner.directory("states")), MOUNT, "rw")])
    state = state_of(web, agent)
    execute(
        service.instance, agent, "sh", "-c",
        "cd /jackin/state; mkdir -p a/b/c; ln -s / a/root; touch a/b/c/x; chmod 000 a/b/c a/b; mkfifo pipe",
    )  # fmt: skip
    page = f"/states/purge?state={state}"
    assert "uses its state" in web.post("/states/purge", asked(web, page, state), page=page).text
    answer = web.post("/states/purge", asked(web, page, state) | {"eject": "on"}, page=page)
    operation = answer.url.removeprefix(service.url)
    assert "/operations/" in operation, answer.text

    def ended() -> str:
        found = STATE.search(web.get(operation).text)
        return found.group(1) if found and found.group(1) in ("Done", "Failed") else ""

    assert wait_for("the purge", ended, seconds=60) == "Done", web.get(operation).text
    assert web.state(agent) == "Ended"
    assert web.get(f"/states/{state}").status_code == 404
    assert not place_of(service, owner, state).exists()
    assert [one.name for one in service.instance.trash.iterdir() if state in one.name] == []
    assert pathlib.Path("/etc/passwd").exists()
