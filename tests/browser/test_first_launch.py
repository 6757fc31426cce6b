"""What the service is for: launch, type, read, write a file that belongs to its owner, reload, restart, eject."""

from __future__ import annotations

import os
import pathlib
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import launch, log_in, terminal_text, type_line
from tests.support.fixtures import Person
from tests.support.machine import Traces, run, same_traces
from tests.support.service import Service, wait_for


@pytest.fixture
def project(owner: Person) -> pathlib.Path:
    """A set-gid project directory of alice's, shared with her project group."""
    path = owner.home / "shared-project"
    run("install", "-d", "-o", owner.account, "-g", "jkt-project", "-m", "2770", str(path))
    return path


def owner_and_group(path: pathlib.Path) -> tuple[str, str]:
    """Names of a file's user and group."""
    return path.owner(), path.group()


def test_a_shell_on_a_project_survives_reload_and_restarts(
    service: Service, page: Page, owner: Person, project: pathlib.Path
) -> None:
    before = Traces.of(service.instance)
    log_in(page, owner)
    launch(page, project, runtime="shell")
    type_line(page, "echo one-$((20+22)); touch first; git --version")
    terminal_text(page, "one-42")
    terminal_text(page, "git version")
    wait_for("the file first", (project / "first").exists)
    assert owner_and_group(project / "first") == (owner.account, "jkt-project")

    page.reload()
    terminal_text(page, "one-42")  # the recent output is there again
    type_line(page, "echo two-$((20+22)); touch second")
    terminal_text(page, "two-42")

    service.kill_child("daphne")
    type_line(page, "echo three-$((20+22)); touch third")
    terminal_text(page, "three-42")
    terminal_text(page, "one-42")

    service.kill_child("runner")
    type_line(page, "echo four-$((20+22)); touch fourth")
    terminal_text(page, "four-42")
    for name in ("second", "third", "fourth"):
        assert owner_and_group(project / name) == (owner.account, "jkt-project"), name

    page.get_by_role("link", name=re.compile("Eject")).first.click()
    page.get_by_role("dialog").get_by_role("button", name="Eject").click()
    expect(page.get_by_text("Ended").first).to_be_visible()
    same_traces(service.instance, before)
    assert os.stat(project / "fourth").st_size == 0


def test_vim_and_a_flood_of_output(page: Page, owner: Person, project: pathlib.Path) -> None:
    log_in(page, owner)
    launch(page, project, runtime="shell")
    type_line(page, "seq 1 400000; echo flood-$((1+1))-over")
    terminal_text(page, "flood-2-over", seconds=60)
    type_line(page, "vim -u NONE written-by-vim")
    terminal_text(page, "written-by-vim")
    page.keyboard.type("ihello from vim")
    page.keyboard.press("Escape")
    page.keyboard.type(":wq")
    page.keyboard.press("Enter")
    wait_for("the file", (project / "written-by-vim").exists)
    assert (project / "written-by-vim").read_text() == "hello from vim\n"
    type_line(page, "sleep 1000")
    page.keyboard.press("Control+c")
    type_line(page, "echo back-$((40+2))")
    terminal_text(page, "back-42")
    type_line(page, "echo size-$(stty size | tr ' ' x)")
    terminal_text(page, re.compile(r"size-[1-9]\d+x[1-9]\d+"))
