"""Login, the growing wait after wrong passwords, one-time passwords, changing one's own."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from agents.models import AuditEvent, User
from tests import factories
from tests.db.web.conftest import ToldRunner
from tests.db.web.html import html_of, page_of

AtPage = Callable[[User | None], Client]
NEW = "a wholly different passphrase"


def test_the_right_password_opens_the_agents(client: Client, alice: User) -> None:
    answer = client.post("/login", {"username": "alice", "password": factories.PASSWORD})
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert client.get("/").status_code == 200
    assert AuditEvent.objects.filter(action="person.login", actor="alice").exists()


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        ("/operations?x=1", "/operations?x=1"),
        ("https://evil.test/", "/"),
        ("//evil.test/", "/"),
        ("/\\evil.test", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_after_the_login_one_comes_back_but_never_elsewhere(
    client: Client, alice: User, wanted: str, reached: str
) -> None:
    form = page_of(client.get("/login", {"next": wanted}))
    assert form.field("next") == reached
    answer = client.post("/login", {"username": "alice", "password": factories.PASSWORD, "next": wanted})
    assert answer["Location"] == reached


@pytest.mark.parametrize("name", ["alice", "nobody-of-this-name"])
def test_a_wrong_password_and_a_wrong_name_read_the_same(client: Client, alice: User, name: str) -> None:
    answer = client.post("/login", {"username": name, "password": "wrong"})
    assert "do not go together" in html_of(answer)
    assert page_of(answer).field("username") == name
    assert page_of(answer).field("password") == ""


@pytest.mark.parametrize(("name", "actor"), [("alice", "alice"), ("my-password-by-mistake", "anonymous")])
def test_a_refused_login_is_written_down(client: Client, alice: User, name: str, actor: str) -> None:
    for _ in range(2):
        client.post("/login", {"username": name, "password": "wrong"})
    event = AuditEvent.objects.get(action="person.login", outcome="refused")  # once a minute is enough
    assert event.actor == actor
    assert "mistake" not in f"{event.summary}{event.detail}"


def test_too_many_wrong_passwords_make_that_account_wait_and_no_other(client: Client, alice: User, bob: User) -> None:
    for _ in range(settings.AXES_FAILURE_LIMIT):
        answer = client.post("/login", {"username": "alice", "password": "wrong"})
    assert answer.status_code == 429
    assert "Too many failed logins" in html_of(answer)
    assert 0 < int(answer["Retry-After"]) <= 5
    right = client.post("/login", {"username": "alice", "password": factories.PASSWORD})
    assert right.status_code == 429  # the right password does not help while it waits
    other = client.post("/login", {"username": "bob", "password": factories.PASSWORD})
    assert other.status_code == 302


def test_a_one_time_password_leads_to_a_password_of_one_s_own(client: Client, alice: User, runner: ToldRunner) -> None:
    later = timezone.now() + datetime.timedelta(minutes=30)
    User.objects.filter(pk=alice.pk).update(must_change_password=True, one_time_expires_at=later, is_superuser=True)
    client.post("/login", {"username": "alice", "password": factories.PASSWORD})
    assert client.get("/")["Location"] == "/password"
    assert runner.first_logins == 1
    page = page_of(client.get("/password"))
    assert "old_password" not in [e["name"] for e in page.all("input")]
    answer = client.post("/password", {"new_password1": NEW, "new_password2": NEW})
    assert answer["Location"] == "/"
    assert client.get("/").status_code == 200  # still logged in
    assert Client().post("/login", {"username": "alice", "password": factories.PASSWORD}).status_code == 200
    assert Client().post("/login", {"username": "alice", "password": NEW}).status_code == 302


@pytest.mark.parametrize("minutes", [-1, 30])
def test_a_one_time_password_works_once_and_not_after_its_hour(client: Client, alice: User, minutes: int) -> None:
    until = timezone.now() + datetime.timedelta(minutes=minutes)
    User.objects.filter(pk=alice.pk).update(must_change_password=True, one_time_expires_at=until)
    if minutes > 0:
        assert Client().post("/login", {"username": "alice", "password": factories.PASSWORD}).status_code == 302
    answer = client.post("/login", {"username": "alice", "password": factories.PASSWORD})
    assert answer.status_code == 200
    assert "One-time" in html_of(answer) or "one-time" in html_of(answer)


@pytest.mark.parametrize(
    ("typed", "field", "part"),
    [
        ({"old_password": "wrong"}, "old_password", "not your present password"),
        ({"new_password2": "something else here"}, "new_password2", "differ"),
        ({"new_password1": "short", "new_password2": "short"}, "new_password1", "12 characters"),
        ({"new_password1": "", "new_password2": ""}, "new_password1", "required"),
        ({"old_password": ""}, "old_password", "required"),
    ],
)
def test_what_is_wrong_with_a_new_password_stands_at_its_field(
    at_page: AtPage, alice: User, typed: dict[str, str], field: str, part: str
) -> None:
    sent = {"old_password": factories.PASSWORD, "new_password1": NEW, "new_password2": NEW}
    answer = at_page(alice).post("/password", sent | typed)
    assert part in page_of(answer).error_of(field)
    alice.refresh_from_db()
    assert alice.check_password(factories.PASSWORD)
    assert NEW not in html_of(answer)


def test_a_changed_password_keeps_this_session_and_ends_the_others(at_page: AtPage, alice: User) -> None:
    here, there = at_page(alice), at_page(alice)
    sent = {"old_password": factories.PASSWORD, "new_password1": NEW, "new_password2": NEW}
    assert here.post("/password", sent)["Location"] == "/account"
    assert here.get("/account").status_code == 200
    assert there.get("/account").status_code == 302


def test_logging_out_ends_the_session(at_page: AtPage, alice: User) -> None:
    client = at_page(alice)
    assert client.post("/logout")["Location"] == "/login"
    assert client.get("/").status_code == 302
