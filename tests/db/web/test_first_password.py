"""The first password: one login, within one hour, and nothing but a password of one's own after it."""

from __future__ import annotations

import datetime
import threading
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone

from agents.models import AuditEvent, User
from agents.operations import accounts
from tests.support.routes import filled, templates

FIRST = "abcdefghijkmnopqrstuvwxy"
TRIES = 6


def log_in(client: Client, password: str = FIRST) -> bool:
    answer = client.post("/login", {"username": "operator", "password": password})
    return answer.status_code == 302


@pytest.fixture
def first(db: None) -> User:
    assert accounts.first_administrator("operator", password=FIRST)
    return User.objects.get()


def test_it_works_once(first: User) -> None:
    assert log_in(Client())
    assert not log_in(Client())


@pytest.mark.parametrize(("minutes", "works"), [(0, True), (59, True), (60, False), (61, False), (10**6, False)])
def test_it_works_for_one_hour(first: User, monkeypatch: pytest.MonkeyPatch, minutes: int, works: bool) -> None:
    later = timezone.now() + datetime.timedelta(minutes=minutes)
    monkeypatch.setattr(timezone, "now", lambda: later)
    assert log_in(Client()) is works


@pytest.mark.django_db(transaction=True)
def test_of_logins_at_the_same_moment_one_gets_in(first: User, monkeypatch: pytest.MonkeyPatch) -> None:
    ready, answers = threading.Barrier(TRIES), []
    use_up = accounts._use_up_one_time_password

    def together(user: User) -> bool:
        ready.wait(20)  # every one of them has shown the right password
        return use_up(user)

    monkeypatch.setattr(accounts, "_use_up_one_time_password", together)

    def race() -> None:
        try:
            answers.append(log_in(Client()))
        finally:
            connection.close()

    threads = [threading.Thread(target=race) for _ in range(TRIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * (TRIES - 1) + [True]
    assert AuditEvent.objects.filter(action="password.one-time.used", outcome="done").count() == 1


def test_with_it_no_page_opens_but_that_for_a_new_password(first: User) -> None:
    client = Client()
    assert log_in(client)
    seen = 0
    for path in map(filled, templates()):
        if path in {"/password", "/logout", "/login", "/invitation", "/admin/logout/", "/admin/password_change/"}:
            continue
        for method in (client.get, client.post):
            answer = method(path)
            assert (answer.status_code, answer["Location"]) == (302, "/password"), path
            seen += 1
    assert seen > 40
    assert client.get("/password").status_code == 200


def test_the_session_that_it_opened_is_an_ordinary_one_after_the_change(first: User) -> None:
    client, new = Client(), "a wholly different passphrase"
    assert log_in(client)
    before = client.cookies[settings.SESSION_COOKIE_NAME].value
    assert client.post("/password", {"new_password1": new, "new_password2": new})["Location"] == "/"
    assert client.cookies[settings.SESSION_COOKIE_NAME].value != before
    assert client.get("/admin/").status_code == 200
    assert not log_in(Client())
    assert log_in(Client(), new)


def test_it_is_in_no_row_and_no_log(first: User, caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    caplog.set_level("DEBUG")
    assert not log_in(Client(), FIRST + "x")
    assert log_in(Client())
    assert not log_in(Client())
    assert FIRST not in "\n".join(connection.connection.iterdump())
    printed = capsys.readouterr()
    assert FIRST not in caplog.text + printed.out + printed.err
