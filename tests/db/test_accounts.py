"""Passwords that work once, accounts that wait longer, and links that are only mirrored."""

from __future__ import annotations

import datetime
import io
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.http import HttpRequest
from django.test import RequestFactory
from django.utils import timezone

from agents.engine.types import AccountLink
from agents.management.commands import mirror_links
from agents.models import AuditEvent, HostAccount, User
from agents.operations import accounts, links, login_delay
from agents.operations.errors import Conflict, Invalid, NotFound, Refused
from tests import factories
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db

ONE_TIME = "abcde-abcde-abcde-abcde"


def login(username: str, password: str, *, address: str = "127.0.0.1") -> User | None:
    request: HttpRequest = RequestFactory().post("/login", REMOTE_ADDR=address)
    user = authenticate(request, username=username, password=password)
    return user if isinstance(user, User) else None


def test_the_first_administrator_is_made_once() -> None:
    assert accounts.first_administrator("operator", password=ONE_TIME)
    assert not accounts.first_administrator("other", password=ONE_TIME)
    user = User.objects.get()
    assert (user.username, user.is_superuser, user.is_staff, user.must_change_password) == (
        "operator",
        True,
        True,
        True,
    )
    assert ONE_TIME not in user.password


def test_a_one_time_password_works_once(gate: list[Mapping[str, Any]]) -> None:
    accounts.first_administrator("operator", password=ONE_TIME)
    user = login("operator", ONE_TIME)
    assert user is not None
    assert user.must_change_password
    assert [request["op"] for request in gate] == ["first_login"]
    assert login("operator", ONE_TIME) is None
    stored = User.objects.get()
    assert stored.get_session_auth_hash() == user.get_session_auth_hash(), "the session that it opened goes on"
    assert not stored.has_usable_password()


def test_a_one_time_password_works_for_one_hour() -> None:
    accounts.first_administrator("operator", password=ONE_TIME)
    User.objects.update(one_time_expires_at=timezone.now() - datetime.timedelta(seconds=1))
    assert login("operator", ONE_TIME) is None
    soon = accounts.ONE_TIME_VALID
    assert soon == datetime.timedelta(hours=1)


def test_a_login_works_while_the_runner_is_away() -> None:
    accounts.first_administrator("operator", password=ONE_TIME)
    assert login("operator", ONE_TIME) is not None


def test_the_password_has_to_be_a_good_one(alice: User) -> None:
    alice.must_change_password = True
    for bad in ("short", "123456789012345", "alice@alice", "password1234"):
        with pytest.raises(Invalid) as caught:
            accounts.change_password(alice, new=bad)
        assert list(caught.value.errors) == ["new_password"]
    accounts.change_password(alice, new="a quite different sentence")
    assert login("alice", "a quite different sentence") is not None
    assert not User.objects.get().must_change_password


def test_the_old_password_is_needed(alice: User) -> None:
    with pytest.raises(Invalid) as caught:
        accounts.change_password(alice, new="a quite different sentence", old="wrong")
    assert list(caught.value.errors) == ["old_password"]
    accounts.change_password(alice, new="a quite different sentence", old=PASSWORD)


def test_nobody_else_may_change_it() -> None:
    from django.contrib.auth.models import AnonymousUser

    with pytest.raises(Refused):
        accounts.change_password(AnonymousUser(), new="a quite different sentence")  # type: ignore[arg-type]


def test_a_second_person_needs_tls_or_a_word(alice: User, settings: Any) -> None:
    with pytest.raises(Refused, match="TLS"):
        accounts.add_person("bob", insecure_http=False)
    password = accounts.add_person("bob", insecure_http=True)
    assert login("bob", password) is not None
    settings.JACKIN_TLS = True
    accounts.add_person("carol", insecure_http=False)
    with pytest.raises(Conflict):
        accounts.add_person("carol", insecure_http=True)
    assert accounts.several_people()


@pytest.mark.parametrize("name", ["", "1bob", "-bob", "b" * 33, "bob\n", "../bob", "bob/smith", "bö", "bob smith"])
def test_names_have_a_narrow_alphabet(name: str) -> None:
    with pytest.raises(Invalid):
        accounts.add_person(name, insecure_http=True)


def test_a_renewed_password_ends_the_old_one(alice: User) -> None:
    password = accounts.renew_one_time_password("alice")
    assert login("alice", PASSWORD) is None
    assert login("alice", password) is not None
    with pytest.raises(NotFound):
        accounts.renew_one_time_password("nobody")


def test_the_wait_grows_per_account_whatever_the_address(alice: User, bob: User) -> None:
    for number in range(5):
        assert login_delay.seconds_left("alice") == 0
        assert login("alice", "wrong", address=f"127.0.0.{number + 1}") is None
    assert 0 < login_delay.seconds_left("alice") <= 5
    assert login("alice", PASSWORD) is None, "locked, from any address"
    assert login("bob", PASSWORD) is not None, "others from the same address are not"
    AccessAttempt.objects.update(attempt_time=timezone.now() - datetime.timedelta(seconds=6))
    assert login_delay.seconds_left("alice") == 0
    assert login("alice", "wrong") is None
    assert 5 < login_delay.seconds_left("alice") <= 10, "longer after each further failure"
    AccessAttempt.objects.update(attempt_time=timezone.now() - datetime.timedelta(seconds=60))
    assert login("alice", PASSWORD) is not None


def test_the_wait_has_an_end() -> None:
    waits = [login_delay.wait_after(failures) for failures in range(40)]
    assert waits == sorted(waits)
    assert waits[4] == datetime.timedelta()
    assert waits[-1] == login_delay.LONGEST_WAIT


def test_root_can_unlock(alice: User) -> None:
    for _ in range(6):
        login("alice", "wrong")
    assert login_delay.seconds_left("alice")
    call_command("unlock", "alice", stdout=io.StringIO())
    assert login_delay.seconds_left("alice") == 0
    with pytest.raises(CommandError):
        call_command("unlock", "nobody")


def link(user: str, account: str, uid: int = 1000) -> AccountLink:
    return AccountLink(web_user=user, account=account, uid=uid, linked_at="2026-01-01T00:00:00+00:00", how="root")


def test_links_are_mirrored(alice: User, bob: User) -> None:
    assert links.mirror([link("alice", "al"), link("nobody", "x")]) == 1
    assert links.mirror([link("alice", "al")]) == 0
    assert links.mirror([link("alice", "al", uid=1001), link("bob", "bob")]) == 2
    assert {(row.user.username, row.account, row.uid) for row in HostAccount.objects.all()} == {
        ("alice", "al", 1001),
        ("bob", "bob", 1000),
    }
    assert links.mirror([]) == 2
    assert not HostAccount.objects.exists()
    assert AuditEvent.objects.filter(action="account.unlink").count() == 2


def test_a_link_for_a_name_that_nobody_has_is_remarked(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = SimpleNamespace(broker=SimpleNamespace(links=lambda: [link("alice", "al"), link("alcie", "al")]))
    monkeypatch.setattr(mirror_links, "build_engines", lambda: engines)
    out = io.StringIO()
    call_command("mirror_links", stdout=out)
    assert out.getvalue().splitlines() == [
        "alcie is linked, but there is no web account of that name (yet)",
        "2 linked, 1 changed",
    ]


def test_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str, typed: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        out = io.StringIO()
        call_command(*arguments, stdout=out)
        return out.getvalue().strip()

    assert run("first_administrator", "operator", typed=f"{ONE_TIME}\n") == "created"
    assert run("first_administrator", "operator", typed=f"{ONE_TIME}\n") == "exists"
    with pytest.raises(CommandError, match="16 characters"):
        run("first_administrator", "operator", typed="short\n")
    with pytest.raises(CommandError, match="TLS"):
        run("person", "add", "bob")
    assert login("bob", run("person", "add", "bob", "--insecure-http")) is not None
    assert login("operator", run("one_time_password", "operator")) is not None


def test_no_password_is_written_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    accounts.first_administrator("operator", password=ONE_TIME)
    login("operator", ONE_TIME + "x")
    login("operator", ONE_TIME)
    assert ONE_TIME not in caplog.text
    assert not AuditEvent.objects.filter(summary__contains=ONE_TIME).exists()
    assert not AccessAttempt.objects.filter(post_data__contains=ONE_TIME).exists()


def test_factories_make_people_who_can_log_in(alice: User) -> None:
    assert login("alice", factories.PASSWORD) == alice
