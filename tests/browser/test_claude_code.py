"""Claude Code, as npm ships it, in the browser terminal: a prompt typed on the keyboard makes it write a file."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.pages import launch, log_in, terminal_text
from tests.support import messages_api
from tests.support.agents import container_of
from tests.support.fixtures import Person
from tests.support.machine import docker, run
from tests.support.service import Service, wait_for

ALIAS = "api.standin.test"
PORT = 8080


@pytest.fixture
def project(owner: Person) -> pathlib.Path:
    path = owner.home / "claude-project"
    run("install", "-d", "-o", owner.account, "-g", owner.account, "-m", "0750", str(path))
    return path


@pytest.fixture
def stand_in(service: Service) -> Iterator[str]:
    """The stand-in of the Messages API in a container of its own on the engine; returns its name."""
    name = "jackin-test-messages-api"
    docker(service.instance, "rm", "-fv", name, check=False)
    image = "projectjackin/construct:trixie"
    script = str(pathlib.Path(messages_api.__file__))
    docker(service.instance, "create", "--name", name, image, "python3", "/messages_api.py", str(PORT))
    docker(service.instance, "cp", script, f"{name}:/messages_api.py")
    docker(service.instance, "start", name)
    yield name
    docker(service.instance, "rm", "-fv", name, check=False)


def test_a_typed_prompt_writes_a_file(
    service: Service, page: Page, owner: Person, project: pathlib.Path, stand_in: str
) -> None:
    log_in(page, owner)
    # the last line keeps its own background calls (updates, statistics) off the network: tests send nothing outside
    environment = (
        f"ANTHROPIC_BASE_URL=http://{ALIAS}:{PORT}\nANTHROPIC_AUTH_TOKEN=not-a-real-token\n"
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"
    )
    launch(page, project, runtime="claude", environment=environment)
    key = page.url.rsplit("/", 1)[-1]
    network = docker(service.instance, "network", "ls", "-q", "--filter", f"label=jackin.agent={key}").strip()
    docker(service.instance, "network", "connect", "--alias", ALIAS, network, stand_in)
    terminal_text(page, re.compile(r"Claude Code v\d"), seconds=60)
    terminal_text(page, "bypass permissions on", seconds=60)

    page.locator("[data-terminal] textarea").focus()
    page.keyboard.type("please write typed-in-the-page into greeting.txt")
    page.keyboard.press("Enter")

    wait_for("the file that Claude Code writes", (project / "greeting.txt").exists, seconds=60)
    assert (project / "greeting.txt").read_text() == "typed-in-the-page\n"
    assert (project / "greeting.txt").owner() == owner.account
    terminal_text(page, "The file is written.", seconds=60)

    assert "not-a-real-token" not in docker(service.instance, "inspect", container_of(service.instance, key))
    assert "not-a-real-token" not in service.log.read_text()
    assert b"not-a-real-token" not in service.instance.database.read_bytes()
    page.get_by_role("link", name=re.compile("Eject")).first.click()
    page.get_by_role("dialog").get_by_role("button", name="Eject").click()
    wait_for("its network to go", lambda: network not in docker(service.instance, "network", "ls", "-q"))
