"""Every rendered page: nothing inline, every form with its token, every field with a label, one main heading."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from django.test import Client, override_settings

from agents.models import Agent, AgentStatus, HostAccount, Operation, OperationState, User
from tests import factories
from tests.db.web.html import Page, forbidden, html_of

AtPage = Callable[[User | None], Client]

PATHS = [
    "/",
    "/?show=failed",
    "/launch",
    "/launch?from={operation}",
    "/operations",
    "/operations/{operation}",
    "/agents/{key}",
    "/agents/{key}/eject",
    "/snapshots",
    "/snapshots/{snapshot}/restore",
    "/account",
    "/password",
    "/admin/",
    "/nothing",
]
STATES = list(AgentStatus.values)


def check(html: str) -> None:
    page = Page(html)
    assert forbidden(html) == []
    for form in page.all("form"):
        inside = page.elements[page.elements.index(form) :]
        if form["method"].lower() == "post":
            assert any(e["name"] == "csrfmiddlewaretoken" for e in inside[:4]), form
    labelled = {e["for"] for e in page.all("label")}
    for field in page.elements:
        if field.tag not in ("input", "select", "textarea") or field["type"] == "hidden" or "aria-hidden" in field:
            continue
        in_label = field["type"] in ("radio", "checkbox") or "Search" in html[:0]
        assert field["id"] in labelled or field["aria-label"] or in_label, field
    for button in page.all("button"):
        assert button.text.strip() or button["aria-label"], button
    ids = [e["id"] for e in page.elements if e["id"]]
    assert len(ids) == len(set(ids)), [i for i in ids if ids.count(i) > 1]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("state", STATES)
def test_a_page_of_a_person(at_page: AtPage, admin: User, linked: HostAccount, path: str, state: str) -> None:
    operation, snapshot = factories.launch(admin), factories.snapshot(factories.state(admin))
    Agent.objects.update(state=state)
    over = {"failed": OperationState.FAILED, "ended": OperationState.CANCELLED, "running": OperationState.SUCCEEDED}
    Operation.objects.update(state=over.get(state, OperationState.RUNNING), error="Why", remedy="What to do")
    assert operation.agent is not None
    html = html_of(
        at_page(admin).get(path.format(key=operation.agent.key, operation=operation.pk, snapshot=snapshot.key))
    )
    check(html)
    if not path.startswith("/admin"):
        assert len(Page(html).all("main")) == 1
        assert len(Page(html).all("h1")) == 1


def test_the_pages_before_the_login(client: Client, db: None) -> None:
    check(html_of(client.get("/login")))
    check(html_of(client.post("/login", {"username": "x", "password": "y"})))


def test_a_form_full_of_errors(at_page: AtPage, alice: User, linked: HostAccount) -> None:
    html = html_of(at_page(alice).post("/launch", {"mounts-count": "5", "environment": "x"}))
    check(html)


def test_the_policy_is_sent_and_loosened_for_the_terminal_s_styles_only(at_page: AtPage, alice: User) -> None:
    agent = factories.agent(alice)
    client = at_page(alice)
    for path in ("/", "/launch", "/login", f"/operations/{uuid.uuid4()}"):
        policy = client.get(path)["Content-Security-Policy"]
        assert "unsafe-inline" not in policy
        assert "frame-ancestors 'none'" in policy
    policy = client.get(f"/agents/{agent.key}")["Content-Security-Policy"]
    assert "style-src 'self' 'unsafe-inline'" in policy
    assert "script-src 'self';" in policy + ";"


def test_a_failure_of_ours_shows_no_trace(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.operations import selectors

    def broken(person: object) -> None:
        raise RuntimeError("a secret of the trace")

    monkeypatch.setattr(selectors, "operations_for", broken)
    client = Client(raise_request_exception=False)
    client.force_login(alice, backend="agents.operations.accounts.OneTimeAwareBackend")
    with override_settings(DEBUG=False):
        answer = client.get("/operations")
    assert answer.status_code == 500
    assert "a secret of the trace" not in html_of(answer)
    check(html_of(answer))


def test_an_unknown_host_is_refused(client: Client, db: None) -> None:
    answer = client.get("/login", headers={"Host": "evil.test"})
    assert answer.status_code == 400
