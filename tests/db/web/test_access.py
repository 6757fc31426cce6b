"""Who gets an answer from each page and action: owner, colleague, administrator, stranger, nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from agents.models import Agent, AgentStatus, AuditEvent, Operation, StateSnapshot, User
from tests import factories
from tests.db.web.html import shown_on

AtPage = Callable[[User | None], Client]

OWN = [  # of one agent or operation
    ("get", "/agents/{key}"),
    ("get", "/agents/{key}?part=head"),
    ("get", "/agents/{key}/eject"),
    ("post", "/agents/{key}/eject"),
    ("get", "/operations/{operation}"),
    ("get", "/operations/{operation}/log"),
    ("post", "/operations/{operation}/cancel"),
    ("get", "/launch?from={operation}"),
    ("get", "/snapshots/{snapshot}/restore"),
    ("post", "/snapshots/{snapshot}/restore"),
    ("get", "/states/{state}"),
    ("post", "/states/{state}/snapshot"),
]
EVERYBODY = [
    ("get", path)
    for path in ("/", "/exile", "/launch", "/operations", "/snapshots", "/states", "/account", "/password")
]
POSTED = [("post", "/launch"), ("post", "/launch/preview"), ("post", "/password")]

OVER = [("post", "/operations/{operation}/retry")]  # of one operation that failed
ADMINISTRATORS = [("get", "/exile/everyone"), ("get", "/exile/of/{name}")]


MISSING = {
    "operation": "00000000-0000-4000-8000-000000000000",
    **dict.fromkeys(("key", "state", "snapshot"), "0" * 32),
}


@pytest.fixture
def launched(alice: User) -> Operation:
    """A launch of alice's that is under way; she has a state and a snapshot, too."""
    factories.snapshot(factories.state(alice))
    return factories.launch(alice)


def filled(path: str, operation: Operation) -> str:
    assert operation.agent is not None
    snapshot = StateSnapshot.objects.get()
    return path.format(
        key=operation.agent.key,
        operation=operation.pk,
        name="alice",
        snapshot=snapshot.key,
        state=snapshot.state_key,
    )


PURGES = [("get", "/states/purge"), ("post", "/states/purge"), ("get", "/states/purge/{key}")]


def test_what_will_be_purged_is_for_its_owner_and_administrators(
    at_page: AtPage, alice: User, bob: User, admin: User, launched: Operation
) -> None:
    state = factories.state(alice)
    page = f"/states/purge?state={state.key}"
    assert [at_page(who).get(page).status_code for who in (alice, admin, bob)] == [200, 200, 404]
    assert at_page(bob).post("/states/purge", {"state": state.key}).status_code == 404
    state.refresh_from_db()
    assert state.phase == "kept"


def test_what_became_of_a_purge_is_for_who_asked_for_it(
    at_page: AtPage, alice: User, bob: User, admin: User, launched: Operation
) -> None:
    keys = [factories.state(alice).key, factories.state(alice).key]
    wrong = at_page(alice).post("/states/purge", {"state": keys, "confirm": "3"})
    assert wrong.status_code == 400
    assert not Operation.objects.filter(kind="purge").exists()
    shown = shown_on(at_page(alice).get(f"/states/purge?state={keys[0]}&state={keys[1]}").content.decode())
    answer = at_page(alice).post("/states/purge", {"state": keys, "confirm": "2", "shown": shown})
    assert answer.status_code == 302
    assert [at_page(who).get(answer["Location"]).status_code for who in (alice, bob, admin)] == [200, 404, 404]
    assert Operation.objects.filter(kind="purge", state="queued").count() == 2


@pytest.mark.parametrize(("method", "path"), OWN)
def test_the_owner_gets_an_answer(at_page: AtPage, alice: User, launched: Operation, method: str, path: str) -> None:
    answer = getattr(at_page(alice), method)(filled(path, launched))
    assert answer.status_code == (200 if method == "get" else 302)


@pytest.mark.parametrize(("method", "path"), OWN)
@pytest.mark.parametrize("who", ["bob", "carol", "admin", "stranger"])
def test_anybody_else_gets_404_and_changes_nothing(
    at_page: AtPage, request: pytest.FixtureRequest, launched: Operation, method: str, path: str, who: str
) -> None:
    person = request.getfixturevalue(who)
    answer = getattr(at_page(person), method)(filled(path, launched))
    assert answer.status_code == 404
    launched.refresh_from_db()
    assert launched.agent is not None
    assert (launched.state, launched.cancel_requested) == ("queued", False)
    assert Agent.objects.get().state == AgentStatus.STARTING
    assert launched.agent.name not in answer.content.decode()
    assert AuditEvent.objects.filter(actor=person.username, outcome="refused").exists()


@pytest.mark.parametrize(("method", "path"), OVER)
@pytest.mark.parametrize("who", ["bob", "carol", "admin", "stranger"])
def test_what_failed_is_tried_again_by_its_owner_only(
    at_page: AtPage, request: pytest.FixtureRequest, launched: Operation, method: str, path: str, who: str
) -> None:
    Operation.objects.update(state="failed")
    Agent.objects.update(state="failed")
    client = at_page(request.getfixturevalue(who))
    assert getattr(client, method)(filled(path, launched)).status_code == 404
    missing = getattr(client, method)(path.format(operation="00000000-0000-4000-8000-000000000000"))
    assert missing.status_code == 404
    assert Operation.objects.count() == 1
    assert getattr(at_page(launched.requested_by), method)(filled(path, launched)).status_code == 302
    assert Operation.objects.count() == 2


@pytest.mark.parametrize(("method", "path"), ADMINISTRATORS)
def test_administrators_have_pages_of_their_own(
    at_page: AtPage, request: pytest.FixtureRequest, launched: Operation, admin: User, method: str, path: str
) -> None:
    for who in ("alice", "bob", "carol", "stranger"):
        for verb in (method, "post"):
            answer = getattr(at_page(request.getfixturevalue(who)), verb)(filled(path, launched), {"confirm": "alice"})
            assert answer.status_code == 404
    assert not Operation.objects.filter(kind="exile").exists()
    answer = getattr(at_page(admin), method)(filled(path, launched))
    assert answer.status_code == 200
    assert launched.agent is not None
    assert launched.agent.name in answer.content.decode()


@pytest.mark.parametrize(("method", "path"), OWN)
def test_another_s_and_a_missing_one_look_the_same(
    at_page: AtPage, bob: User, launched: Operation, method: str, path: str
) -> None:
    client = at_page(bob)
    others = getattr(client, method)(filled(path, launched))
    missing = getattr(client, method)(path.format(**MISSING))
    assert missing.status_code == others.status_code == 404
    assert missing.content == others.content


@pytest.mark.parametrize(("method", "path"), [*OWN, *OVER, *ADMINISTRATORS, *EVERYBODY, *POSTED, ("get", "/admin/")])
def test_nobody_is_sent_to_the_login(at_page: AtPage, launched: Operation, method: str, path: str) -> None:
    answer = getattr(at_page(None), method)(filled(path, launched))
    assert answer.status_code == 302
    assert "/login" in answer["Location"]


@pytest.mark.parametrize(("method", "path"), EVERYBODY)
@pytest.mark.parametrize("who", ["alice", "stranger", "admin"])
def test_everybody_has_the_common_pages(
    at_page: AtPage, request: pytest.FixtureRequest, method: str, path: str, who: str
) -> None:
    answer = at_page(request.getfixturevalue(who)).get(path)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert "HX-Request" in answer["Vary"]


@pytest.mark.parametrize(("method", "path"), [*OWN, *OVER, *ADMINISTRATORS, *EVERYBODY, *POSTED, ("get", "/admin/")])
def test_with_a_one_time_password_only_the_password_page_opens(
    at_page: AtPage, alice: User, launched: Operation, method: str, path: str
) -> None:
    User.objects.filter(pk=alice.pk).update(must_change_password=True)
    answer = getattr(at_page(alice), method)(filled(path, launched))
    if path == "/password":
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer["Location"]) == (302, "/password")


def test_someone_switched_off_is_out(at_page: AtPage, alice: User, launched: Operation) -> None:
    client = at_page(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    answer = client.get(filled("/agents/{key}", launched))
    assert answer.status_code == 302


def test_a_part_sends_the_whole_page_to_the_login(at_page: AtPage, launched: Operation) -> None:
    answer = at_page(None).get("/", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/?show=live"})
    assert answer.status_code == 200
    assert answer["HX-Redirect"] == "/login?next=%2F%3Fshow%3Dlive"


@pytest.mark.parametrize(
    "path",
    [
        *["/agents/{key}/eject", "/operations/{operation}/cancel", "/operations/{operation}/retry"],
        *["/exile", "/launch", "/logout", "/login", "/states/{state}/snapshot"],
    ],
)
def test_a_post_without_the_form_s_token_does_nothing(
    at_page: Callable[..., Client], alice: User, launched: Operation, path: str
) -> None:
    answer = at_page(alice, enforce_csrf_checks=True).post(filled(path, launched))
    assert answer.status_code == 403
    assert "no longer valid" in answer.content.decode()
    launched.refresh_from_db()
    assert launched.state == "queued"


@pytest.mark.parametrize(
    "path",
    [
        *["/operations/{operation}/cancel", "/operations/{operation}/retry", "/logout", "/launch/preview"],
        "/states/{state}/snapshot",
    ],
)
def test_what_changes_something_is_no_get(at_page: AtPage, alice: User, launched: Operation, path: str) -> None:
    assert at_page(alice).get(filled(path, launched)).status_code == 405
