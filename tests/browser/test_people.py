"""From an invitation to an agent: the administrator invites, the person comes in, proves an account, launches."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import launch, log_in, terminal_text, type_line
from tests.support.fixtures import Person
from tests.support.machine import run, unix_account
from tests.support.service import Service

NEW = "a-good-password-of-the-newcomer"
UNIX = "the password of the Unix account"


@pytest.fixture
def administrator(service: Service, owner: Person) -> Iterator[Person]:
    """alice, for the time of the test."""
    at = ("shell", "-v", "0", "-c")
    code = (
        "from agents.models import User; User.objects.filter(username='alice').update(is_superuser={0}, is_staff={0})"
    )
    assert service.manage(*at, code.format(True)).returncode == 0
    yield owner
    assert service.manage(*at, code.format(False)).returncode == 0


def test_an_invited_person_comes_in_links_their_account_and_launches(
    service: Service, browser: Browser, page: Page, administrator: Person
) -> None:
    name = f"new-{secrets.token_hex(4)}"
    with unix_account("jkt-dora") as dora:
        run("chpasswd", text=f"jkt-dora:{UNIX}\n")
        log_in(page, administrator)
        page.get_by_role("link", name="People").click()
        page.get_by_role("link", name="Add a person").click()
        page.get_by_label("User name").fill(name)
        page.get_by_role("button", name="Add and show the link").click()
        link = page.get_by_label("Link", exact=True).input_value()
        assert "#" in link

        context = browser.new_context(base_url=service.url)
        theirs = context.new_page()
        asked: list[str] = []
        theirs.on("request", lambda request: asked.append(request.url + request.headers.get("referer", "")))
        theirs.goto(link)
        expect(theirs.get_by_role("heading", name=f"Welcome, {name}")).to_be_visible()
        secret = link.partition("#")[2]
        assert secret not in theirs.url
        theirs.get_by_label("New password", exact=True).fill(NEW)
        theirs.get_by_label("The new password again").fill(NEW)
        theirs.get_by_role("button", name="Set password and log in").click()
        expect(theirs.get_by_role("heading", name="Give an agent one folder to start with")).to_be_visible()
        assert not any(secret in one.partition("#")[0] for one in asked)

        theirs.goto("/account")
        theirs.get_by_label("Unix account").fill("jkt-dora")
        theirs.get_by_label("Its password").fill(UNIX)
        theirs.get_by_role("button", name="Link this account").click()
        expect(theirs.get_by_text("You act as jkt-dora now")).to_be_visible(timeout=20_000)

        project = f"{dora.pw_dir}/project"
        run("install", "-d", "-o", "jkt-dora", "-g", "jkt-dora", project)
        launch(theirs, project, runtime="shell")  # type: ignore[arg-type]
        type_line(theirs, "echo here-$((40+2))")
        terminal_text(theirs, "here-42")

        page.goto(f"/person/{name}")
        page.get_by_role("link", name="Delete …").click()
        page.get_by_label("Their user name, to confirm").fill(name)
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_text(f"{name} is deleted.")).to_be_visible()
        expect(theirs.get_by_role("heading", name="Log in")).to_be_visible(timeout=30_000)  # by itself
        context.close()
