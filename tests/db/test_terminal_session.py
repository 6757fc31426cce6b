"""A terminal's websocket lives no longer than the login behind it, and belongs to the account that opened it."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.utils import timezone

from agents.models import Agent, User
from agents.operations import accounts
from agents.web import peer
from agents.web.terminal.consumer import TerminalConsumer
from agents.web.terminal.protocol import LOGGED_OUT
from tests import factories
from tests.support.websockets import Person, closed, control, opened, refused, websocket

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tty")]
NEW = "a wholly different passphrase"


def log_out(person: Person) -> None:
    assert person.client.post("/logout").status_code == 302


def change_the_password(person: Person) -> None:
    sent = {"old_password": factories.PASSWORD, "new_password1": NEW, "new_password2": NEW}
    assert person.client.post("/password", sent)["Location"] == "/account"


def change_the_password_in_another_browser(person: Person) -> None:
    change_the_password(Person(person.user))


def renew_the_password(person: Person) -> None:
    accounts.renew_one_time_password(person.user.username)


def switch_off(person: Person) -> None:
    User.objects.filter(pk=person.user.pk).update(is_active=False)


def delete_the_session(person: Person) -> None:
    Session.objects.all().delete()


def expire_the_session(person: Person) -> None:
    Session.objects.update(expire_date=timezone.now() - datetime.timedelta(seconds=1))


def give_the_agent_away(person: Person) -> None:
    Agent.objects.update(owner=factories.person("bob"))


ENDS = [
    log_out,
    change_the_password,
    change_the_password_in_another_browser,
    renew_the_password,
    switch_off,
    delete_the_session,
    expire_the_session,
    give_the_agent_away,
]


@pytest.mark.parametrize("end", ENDS)
async def test_it_closes_within_seconds_when_the_login_ends_and_opens_no_more(
    agent: Agent,
    owner: Person,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Person], None],
) -> None:
    assert TerminalConsumer.check_every <= 5
    monkeypatch.setattr(TerminalConsumer, "check_every", 0.05)
    cookie = owner.cookie
    async with opened(agent, owner) as connection:
        await control(connection, "ready")
        await control(connection, "viewers")
        assert await connection.receive_nothing(timeout=0.3), "closed though the session lives"
        await sync_to_async(end)(owner)
        assert await closed(connection) == LOGGED_OUT
    await refused(websocket(agent, cookie=cookie))


async def test_a_cookie_of_another_account_of_the_machine_opens_none(
    agent: Agent,
    owner: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stolen by its web server on another port, or planted by it."""

    def bind() -> None:
        session = owner.client.session
        session[peer.BOUND] = "uid 1000"
        session.save()

    await sync_to_async(bind)()
    for thief in ("uid 1001", "elsewhere", "nobody"):
        monkeypatch.setattr(peer, "of", lambda client, server, name=thief: name)
        await refused(websocket(agent, cookie=owner.cookie))
    monkeypatch.setattr(peer, "of", lambda client, server: "uid 1000")
    async with opened(agent, owner) as connection:
        await control(connection, "ready")


async def test_two_cookies_of_our_name_open_none(agent: Agent, owner: Person, bob: User) -> None:
    other = await sync_to_async(Person)(bob)
    for cookie in (owner.cookie + b"; " + other.cookie, other.cookie + b"; " + owner.cookie):
        await refused(websocket(agent, cookie=cookie))


async def test_what_the_browser_calls_another_site_is_refused(agent: Agent, owner: Person) -> None:
    for site in (b"same-site", b"cross-site"):
        await refused(websocket(agent, cookie=owner.cookie, extra=((b"sec-fetch-site", site),)))
    async with opened(agent, owner, extra=((b"sec-fetch-site", b"same-origin"),)) as connection:
        await control(connection, "ready")
