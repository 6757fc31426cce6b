"""Other origins, planted and stolen cookies, at the pages without a browser: refused, and nothing is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.middleware.csrf import _get_new_csrf_string  # type: ignore[attr-defined]
from django.test import Client

from agents.models import Agent, AgentStatus, AuditEvent, Operation, User
from agents.web import peer
from tests import factories
from tests.db.web.conftest import ToldRunner
from tests.db.web.html import page_of

AtPage = Callable[..., Client]

OURS = {"Origin": "http://testserver"}
OTHERS = [
    {},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://testserver:8001"},
    {"Origin": "https://testserver"},
    {"Origin": "http://localhost"},
    {"Origin": "http://testserver.evil.test"},
    {"Origin": "http://testserver, http://testserver"},
    {"Origin": "null", "Referer": "http://testserver/"},
    {"Referer": "http://testserver:8001/launch"},
    {"Referer": "http://evil.test/http://testserver/"},
    {"Referer": "http://testserver@evil.test/"},
    {"Referer": "testserver"},
    OURS | {"Sec-Fetch-Site": "same-site"},
    OURS | {"Sec-Fetch-Site": "cross-site"},
]
CHANGING = [
    "/launch",
    "/launch/preview",
    "/agents/{key}/eject",
    "/operations/{operation}/cancel",
    "/password",
    "/logout",
    "/login",
    "/admin/agents/user/1/change/",
]


@pytest.fixture
def launched(alice: User) -> Operation:
    return factories.launch(alice)


def token_for(client: Client) -> str:
    """The token of a form of ours, in the page and in the cookie: all that the wrong origin lacks is the origin."""
    return page_of(client.get("/password" if settings.SESSION_COOKIE_NAME in client.cookies else "/login")).field(
        "csrfmiddlewaretoken"
    )


def untouched(launched: Operation, alice: User) -> bool:
    launched.refresh_from_db()
    agent = Agent.objects.get()
    alice.refresh_from_db()
    same = (launched.state, launched.cancel_requested, agent.state) == ("queued", False, AgentStatus.STARTING)
    return same and alice.check_password(factories.PASSWORD)


@pytest.mark.parametrize("path", CHANGING)
def test_no_other_origin_changes_anything_though_cookie_and_token_are_right(
    at_page: AtPage, alice: User, launched: Operation, path: str
) -> None:
    assert launched.agent is not None
    client = at_page(alice, enforce_csrf_checks=True)
    sent = {"csrfmiddlewaretoken": token_for(client)}
    for headers in OTHERS:
        answer = client.post(path.format(key=launched.agent.key, operation=launched.pk), sent, headers=headers)
        assert answer.status_code == 403, headers
        assert "no longer valid" in answer.content.decode()
    assert untouched(launched, alice)
    assert client.get("/account").status_code == 200, "still logged in"


@pytest.mark.parametrize(
    "headers", [OURS, {"Referer": "http://testserver/login"}, OURS | {"Sec-Fetch-Site": "same-origin"}]
)
def test_our_own_origin_may(at_page: AtPage, alice: User, headers: dict[str, str]) -> None:
    client = at_page(None, enforce_csrf_checks=True)
    sent = {"username": "alice", "password": factories.PASSWORD, "csrfmiddlewaretoken": token_for(client)}
    assert client.post("/login", sent, headers=headers).status_code == 302
    client.cookies[settings.CSRF_COOKIE_NAME] = ""
    assert client.post("/login", sent, headers=headers).status_code == 403, "the token is needed too"


def test_a_link_from_another_site_still_opens(at_page: AtPage, alice: User) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Referer": "http://evil.test/"}
    assert at_page(alice).get("/account", headers=headers).status_code == 200


def test_a_planted_token_does_not_help_another_port(at_page: AtPage, alice: User, launched: Operation) -> None:
    """Cookies ignore ports: the attacker sets our token's cookie and sends the same token in the form."""
    assert launched.agent is not None
    client = at_page(alice, enforce_csrf_checks=True)
    planted = _get_new_csrf_string()
    client.cookies[settings.CSRF_COOKIE_NAME] = planted
    sent = {"csrfmiddlewaretoken": planted}
    for path in (f"/agents/{launched.agent.key}/eject", "/logout"):
        assert client.post(path, sent, headers={"Origin": "http://testserver:9999"}).status_code == 403
        assert client.post(path, sent).status_code == 403
    assert untouched(launched, alice)
    assert client.post("/logout", sent, headers=OURS).status_code == 302, "the token itself was a good one"


def test_a_session_planted_before_the_login_is_not_the_one_after_it(client: Client, alice: User) -> None:
    store = client.session  # a session that the attacker has opened, and knows
    store["x"] = 1
    store.save()
    planted = str(store.session_key)
    client.cookies[settings.SESSION_COOKIE_NAME] = planted
    assert client.post("/login", {"username": "alice", "password": factories.PASSWORD}).status_code == 302
    assert client.cookies[settings.SESSION_COOKIE_NAME].value != planted
    attacker = Client()
    attacker.cookies[settings.SESSION_COOKIE_NAME] = planted
    assert attacker.get("/account").status_code == 302


@pytest.mark.parametrize("name", [settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME], ids=["session", "csrf"])
def test_two_cookies_of_our_name_are_refused_and_the_planted_one_removed(
    at_page: AtPage, alice: User, bob: User, name: str
) -> None:
    client, other = at_page(alice), at_page(bob)
    ours, planted = client.cookies[settings.SESSION_COOKIE_NAME], other.cookies[settings.SESSION_COOKIE_NAME]
    values = [ours.value, planted.value] if name == settings.SESSION_COOKIE_NAME else ["a" * 32, "b" * 32]
    for first, second in (values, values[::-1]):
        answer = Client().get("/account/x", headers={"Cookie": f"{name}={first}; other=1; {name}={second}"})
        assert answer.status_code == 400
        page = answer.content.decode()
        assert "two cookies" in page
        assert "alice" not in page
        assert "bob" not in page
        removed = [(one.key, one["path"], one["max-age"]) for one in answer.cookies.values()]
        paths = ["/account", "/account/", "/account/x", "/account/x/"]
        assert removed == [(name, path, "0") for path in paths]
    assert client.get("/account").status_code == 200
    assert Session.objects.count() == 2, "nobody was logged out"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Says from which Unix account the requests come; tests/unit/web/test_peer.py finds it out for real."""

    def of(name: str) -> None:
        monkeypatch.setattr(peer, "of_request", lambda _: name)

    return of


def test_a_stolen_cookie_is_worth_nothing_to_another_account_of_the_machine(
    client: Client, alice: User, account: Callable[[str], None]
) -> None:
    account("uid 1000")
    client.post("/login", {"username": "alice", "password": factories.PASSWORD})
    for thief in ("uid 1001", "elsewhere", "nobody"):
        account(thief)
        for path in ("/account", "/", "/login", "/admin/"):
            other = Client()
            other.cookies[settings.SESSION_COOKIE_NAME] = client.cookies[settings.SESSION_COOKIE_NAME].value
            answer = other.get(path)
            assert answer.status_code == 403
            assert "alice" not in answer.content.decode()
        assert answer.cookies[settings.SESSION_COOKIE_NAME].value == ""
    events = AuditEvent.objects.filter(action="person.session", outcome="refused", actor="alice")
    assert "used from uid 1001, opened by uid 1000" in events.values_list("summary", flat=True)
    account("uid 1000")
    assert client.get("/account").status_code == 200, "its owner is still logged in"


def test_a_planted_session_of_somebody_else_is_noticed_and_removed(
    client: Client, alice: User, bob: User, account: Callable[[str], None], runner: ToldRunner
) -> None:
    account("uid 1001")
    attacker = Client()
    attacker.post("/login", {"username": "bob", "password": factories.PASSWORD})
    account("uid 1000")
    client.cookies[settings.SESSION_COOKIE_NAME] = attacker.cookies[settings.SESSION_COOKIE_NAME].value
    answer = client.post("/launch", {"runtime": "shell"})
    assert answer.status_code == 403
    assert "made from another account" in answer.content.decode()
    assert client.cookies[settings.SESSION_COOKIE_NAME].value == ""
    assert client.get("/login").status_code == 200
    assert not Agent.objects.exists()


@pytest.mark.parametrize(
    ("path", "status"),
    [("/login", 302), ("/account", 200), ("/nothing", 404), ("/logout", 405), ("/admin/", 302), ("/", 400)],
)
def test_every_answer_keeps_other_origins_out(at_page: AtPage, alice: User, path: str, status: int) -> None:
    headers = {"Host": "evil.test"} if status == 400 else {}
    answer = at_page(alice).get(path, headers=headers)
    assert answer.status_code == status
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer["Referrer-Policy"] == "same-origin"
    assert "camera=()" in answer["Permissions-Policy"]
    policy = answer["Content-Security-Policy"]
    for directive in ("frame-ancestors 'none'", "script-src 'self'", "base-uri 'none'", "form-action 'self'"):
        assert directive in policy
    assert "unsafe" not in policy


def test_the_cookies_are_strict_and_hidden_from_scripts(client: Client, alice: User) -> None:
    client.get("/login")
    client.post("/login", {"username": "alice", "password": factories.PASSWORD})
    for name in (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME):
        cookie = client.cookies[name]
        assert (cookie["samesite"], cookie["httponly"], cookie["domain"], cookie["path"]) == ("Strict", True, "", "/")
