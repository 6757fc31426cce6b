"""What a person does on the pages, in one place for all browser tests."""

from __future__ import annotations

import contextlib
import pathlib
import re

from playwright.sync_api import Page, expect

from tests.support.fixtures import Person
from tests.support.service import wait_for


def log_in(page: Page, person: Person) -> None:
    """From the login page to the dashboard."""
    page.goto("/login")
    page.get_by_label("Username").fill(person.name)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Agents", exact=True)).to_be_visible()


def fill_launch(page: Page, project: pathlib.Path | str, *, runtime: str, environment: str = "") -> None:
    """Open the launch form and fill it in; the project is writable."""
    page.goto("/launch")
    page.get_by_label("Source of mount 1").fill(str(project))
    page.get_by_label("read and write").first.check(force=True)
    page.get_by_label("Runtime").select_option(runtime)
    if environment:
        page.get_by_label("Environment").fill(environment)


def launch(page: Page, project: pathlib.Path, *, runtime: str, environment: str = "") -> None:
    """Launch and wait until the terminal is connected."""
    fill_launch(page, project, runtime=runtime, environment=environment)
    page.locator("[data-main-submit]").click()
    expect(page).to_have_url(re.compile(r"/agents/[0-9a-f]{32}"))
    connected(page)


def connected(page: Page) -> None:
    """Wait until the terminal says that it is connected."""
    expect(page.locator("[data-terminal]")).to_be_visible(timeout=240_000)
    expect(page.get_by_text("Connected", exact=True)).to_be_visible(timeout=30_000)


def screen(page: Page) -> str:
    """All text of the terminal, its scroll-back included."""
    return str(page.evaluate("() => window.jackinTerminals?.[0]?.text() ?? ''"))


def terminal_text(page: Page, wanted: str | re.Pattern[str], *, seconds: float = 20) -> str:
    """Wait until the terminal shows `wanted`; returns all of its text."""
    pattern = wanted if isinstance(wanted, re.Pattern) else re.compile(re.escape(wanted))

    def look() -> str | None:
        text = screen(page)
        return text if pattern.search(text) else None

    try:
        return wait_for(f"{wanted!r} in the terminal", look, seconds=seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}\nThe terminal shows:\n{screen(page)[-4000:]}") from None


def type_line(page: Page, line: str) -> None:
    """Type a line with the keyboard, once the terminal is connected."""
    connected(page)
    page.locator("[data-terminal] textarea").focus()
    page.keyboard.type(line)
    page.keyboard.press("Enter")


def set_mark(page: Page) -> None:
    """Set a variable in the shell: as long as it is there, it is the same shell."""
    type_line(page, "mark=same-$((20+22))-shell; echo set-$mark")
    terminal_text(page, "set-same-42-shell")


def types_on(page: Page, name: str) -> None:
    """The same window, or the same page after it has connected again, is at the same shell.

    What is typed in the moment of the death may be lost, as a person sees: so they type it again.
    """
    for tries in range(5):
        type_line(page, f"echo {name}-$mark-{tries}")
        with contextlib.suppress(AssertionError):
            terminal_text(page, re.compile(f"{name}-same-42-shell-[0-9]"), seconds=8)
            return
    terminal_text(page, re.compile(f"{name}-same-42-shell-[0-9]"))
