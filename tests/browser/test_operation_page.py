"""The page of a launch under way: its output appears by itself, stays where one reads, and a key cancels it."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import fill_launch, log_in
from tests.support.fixtures import Person, logged_in
from tests.support.machine import Traces, docker, run, same_traces
from tests.support.service import Service, wait_for

pytestmark = pytest.mark.live


@pytest.fixture
def project(owner: Person) -> Iterator[pathlib.Path]:
    path = owner.directory("watched-project", mode="0700")
    yield path
    run("rm", "-rf", "--one-file-system", str(path))


@pytest.fixture
def no_image(service: Service) -> None:
    """The next launch has to build: the derived image of the shell is gone."""
    for tag in docker(service.instance, "images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if tag.startswith("jackin/agent-smith-shell:"):
            docker(service.instance, "rmi", "--force", tag)


def test_output_comes_by_itself_and_a_key_cancels(
    service: Service, page: Page, owner: Person, project: pathlib.Path, no_image: None
) -> None:
    web = logged_in(service, owner)
    web.post("/exile", {})  # what earlier tests left running: all of it ends below, too
    wait_for("no agent of hers", lambda: "There is no agent to eject" in web.get("/exile").text, seconds=60)
    before = Traces.of(service.instance)
    log_in(page, owner)
    page.set_viewport_size({"width": 1280, "height": 400})
    guard, broker = service.child("guard"), service.child("broker")
    os.kill(guard, signal.SIGSTOP)  # no build begins: it waits for the firewall
    try:
        fill_launch(page, project, runtime="shell")
        page.locator("[data-main-submit]").click()
        expect(page).to_have_url(re.compile(r"/agents/[0-9a-f]{32}"))
        log = page.locator("[data-log]")
        expect(log).to_contain_text("Building jackin/agent-smith-shell")  # on the agent's own page, too
        page.get_by_role("link", name="Steps and log").first.click()
        expect(log).to_contain_text("Building jackin/agent-smith-shell")
        page.evaluate("window.sameDocument = true")

        follow = page.get_by_label("Follow the end")
        expect(follow).to_be_checked()
        follow.focus()
        page.keyboard.press("Space")
        os.kill(broker, signal.SIGSTOP)  # the folders are there by now; the gate will not be opened
        os.kill(guard, signal.SIGCONT)
        expect(log).to_contain_text("Successfully tagged", timeout=60_000)
        expect(page.locator("#step-verify.now")).to_be_visible(timeout=20_000)
        assert log.evaluate("list => list.scrollHeight > list.clientHeight + 100")
        assert log.evaluate("list => list.scrollTop") == 0, "who reads above is left alone"
        expect(follow).not_to_be_checked()
        follow.focus()
        page.keyboard.press("Space")
        assert log.evaluate("list => list.scrollHeight - list.scrollTop - list.clientHeight") < 2
        log.evaluate("list => { list.scrollTop = 0 }")
        expect(follow).not_to_be_checked()  # scrolling up is enough

        assert page.evaluate("window.sameDocument"), "nothing was loaded anew"
        began = time.monotonic()
        page.locator("body").press("c")
        expect(page.get_by_role("heading", name="Cancelled")).to_be_visible(timeout=15_000)
        assert time.monotonic() - began < 15
        os.kill(broker, signal.SIGCONT)
        same_traces(service.instance, before, seconds=60)
    finally:
        for part in (guard, broker):
            os.kill(part, signal.SIGCONT)
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    page.get_by_role("button", name="Try again").press("Enter")
    expect(page).to_have_url(re.compile(r"/agents/[0-9a-f]{32}"), timeout=60_000)  # it leads on to the terminal
    page.goto("/exile")
    page.get_by_role("button", name=re.compile("^Eject 1 agent$")).press("Enter")
    expect(page.get_by_role("heading", name="Done")).to_be_visible(timeout=30_000)
    same_traces(service.instance, before)
