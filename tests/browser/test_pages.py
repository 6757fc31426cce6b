"""The pages in a real browser: keys, mount rows, live preview, themes, errors, and no page wider than its window."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import log_in
from tests.support.fixtures import Person

PATHS = ("/", "/launch", "/operations", "/account", "/password")


@pytest.fixture
def at_launch(page: Page, owner: Person) -> Page:
    """The launch form, opened with its key."""
    log_in(page, owner)
    page.keyboard.press("l")
    expect(page).to_have_url(re.compile(r"/launch$"))
    return page


def test_mount_rows_are_added_filled_in_and_removed_in_place(at_launch: Page) -> None:
    page = at_launch
    page.get_by_label("Source of mount 1").fill("/home/x/my project")
    expect(page.get_by_label("Destination of mount 1")).to_have_value("/workspace/my project")
    add = page.get_by_role("button", name="Add a mount")
    add.click()
    expect(page.get_by_label("Source of mount 2")).to_be_focused()
    page.get_by_label("Source of mount 2").fill("/srv/one")
    add.click()
    page.get_by_label("Source of mount 3").fill("/srv/two")
    page.get_by_label("Destination of mount 3").fill("/data/chosen")
    page.get_by_label("Source of mount 3").fill("/srv/three")
    expect(page.get_by_label("Destination of mount 3")).to_have_value("/data/chosen")  # what was typed stays
    page.get_by_role("radiogroup", name="Mode of mount 3").get_by_label("read and write").check(force=True)
    page.get_by_label("Remove mount 2").click()
    expect(page.get_by_label("Source of mount 2")).to_have_value("/srv/three")
    expect(page.locator("[name=mounts-1-mode][value=rw]")).to_be_checked()
    expect(page.locator("[name=mounts-count]")).to_have_value("2")


def test_the_preview_follows_what_is_typed(at_launch: Page) -> None:
    page = at_launch
    page.get_by_label("Source of mount 1").fill("/home/x/project")
    preview = page.locator("#preview")
    expect(preview).to_contain_text("Read and write /home/x/project")
    page.get_by_role("radiogroup", name="Mode of mount 1").get_by_label("read-only").check(force=True)
    expect(preview).to_contain_text("Write to /home/x/project")
    expect(preview).not_to_contain_text("Read and write")


def test_environment_values_leave_the_page_with_the_launch_only(at_launch: Page) -> None:
    page = at_launch
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    page.get_by_label("Environment").fill("TOKEN=not-to-be-sent-with-the-preview")
    with page.expect_response("**/launch/preview"):
        page.get_by_label("Source of mount 1").fill("/home/x/project")
    assert any("mounts-0-source" in body for body in sent)
    assert not any("not-to-be-sent" in body for body in sent)


def test_errors_are_gathered_linked_and_nothing_is_lost(at_launch: Page) -> None:
    page = at_launch
    page.get_by_label("Source of mount 1").fill("relative")
    page.get_by_label("CPUs").fill("4000")
    page.get_by_label("Environment").fill("A=kept\nno equals")
    page.keyboard.press("Control+Enter")
    first = page.locator("[data-errors] a").first
    expect(first).to_be_focused()
    first.click()
    expect(page.get_by_label("Source of mount 1")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Source of mount 1")).to_have_value("relative")
    expect(page.get_by_label("CPUs")).to_have_value("4000")
    expect(page.get_by_label("Environment")).to_have_value("A=kept\nno equals")


def test_a_theme_is_kept_and_keys_are_listed(page: Page, owner: Person) -> None:
    log_in(page, owner)
    button = page.locator("[data-theme-button]")
    button.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    button.click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Launch an agent")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("width", [320, 360, 900, 1440])
def test_no_page_is_wider_than_its_window(page: Page, owner: Person, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    log_in(page, owner)
    for path in PATHS:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_everything_of_the_launch_form_is_reached_by_keyboard(at_launch: Page) -> None:
    page = at_launch
    page.locator("#main").focus()
    names = []
    for _ in range(16):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()"))
    wanted = ["class_slug", "mounts-0-source", "mounts-0-destination", "mounts-0-mode", "add_mount", "runtime"]
    wanted += ["cpus", "memory_gb", "pids", "environment"]
    assert [name for name in names if name in wanted] == wanted
    ring = "getComputedStyle(document.querySelector('[name=cpus]')).boxShadow"
    page.locator("[name=cpus]").focus()
    assert page.evaluate(ring) != "none"
