"""People: links that let one in once, accounts that are switched off or deleted, and what ends with them."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from agents.broker.tries import Tries
from agents.models import Agent, AgentState, AuditEvent, Invitation, User
from agents.operations import invitations, people, proving
from agents.operations.errors import Conflict, Invalid, NotFound, Refused
from agents.operations.launch import request_launch
from agents.operations.people import ROOT
from tests import factories
from tests.db.conftest import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("gate")]
GOOD = "a good long password of dave's"


@pytest.fixture(autouse=True)
def _fresh_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "_wrong", Tries(most=10, seconds=900))


@pytest.fixture
def link(admin: User) -> invitations.Link:
    return people.add_person(admin, "dave", insecure_http=True)


def use(link: invitations.Link, *, password: str = GOOD) -> User:
    return invitations.use(link.secret, password=password, came_from="here")


def test_a_link_works_once_and_only_its_hash_is_kept(link: invitations.Link) -> None:
    assert link.secret not in repr(link)
    kept = Invitation.objects.get()
    assert link.secret not in str(vars(kept))
    assert use(link).check_password(GOOD)
    with pytest.raises(NotFound):
        use(link, password="another good long password")
    assert User.objects.get(username="dave").check_password(GOOD)
    assert not any(link.secret in str(vars(event)) for event in AuditEvent.objects.all())


def test_a_link_ends(link: invitations.Link, admin: User) -> None:
    Invitation.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))
    with pytest.raises(NotFound):
        use(link)
    newer = people.make_link(admin, "dave", insecure_http=True)
    newest = people.make_link(admin, "dave", insecure_http=True)
    with pytest.raises(NotFound):
        use(newer)
    people.disable(admin, "dave")
    with pytest.raises(NotFound):
        use(newest)
    assert not User.objects.get(username="dave").has_usable_password()


def test_a_bad_password_uses_nothing_up(link: invitations.Link) -> None:
    with pytest.raises(Invalid):
        use(link, password="dave")
    assert use(link).username == "dave"


def test_guessing_is_bounded(link: invitations.Link) -> None:
    for number in range(10):
        with pytest.raises(NotFound):
            invitations.look(f"guess {number}", came_from="here")
    with pytest.raises(Refused):
        invitations.look("guess", came_from="here")
    with pytest.raises(Refused):
        invitations.look(link.secret, came_from="here")
    assert invitations.look(link.secret, came_from="elsewhere").username == "dave"


def test_who_is_switched_off_loses_sessions_and_agents(world: World, alice: User, admin: User) -> None:
    factories.agent_smith()
    request_launch(alice, factories.launch_request())
    assert world.work().state == "succeeded"
    waiting = request_launch(alice, factories.launch_request())
    client = Client()
    client.force_login(alice, backend="agents.operations.accounts.OneTimeAwareBackend")
    assert client.get("/account").status_code == 200
    assert people.disable(admin, "alice") == 2
    waiting.refresh_from_db()
    assert waiting.state == "cancelled"
    assert world.work().state == "succeeded"
    assert not Agent.objects.filter(state__in=("starting", "running", "ejecting")).exists()
    people.enable(admin, "alice", insecure_http=True)
    assert "/login" in client.get("/account")["Location"], "an old session does not come alive again"
    assert AgentState.objects.filter(owner=alice, phase="kept").exists(), "what it kept is kept"


def test_who_is_deleted_stays_in_the_ledger_and_their_name_stays_taken(alice: User, admin: User) -> None:
    factories.agent(alice, state="ended")
    with pytest.raises(Invalid):
        people.delete(admin, "alice", typed="alic", purge=False)
    assert people.delete(admin, "alice", typed="alice", purge=False) == []
    gone = User.objects.get(username="alice")
    assert (gone.is_active, gone.has_usable_password(), gone.deleted_at is None) == (False, False, False)
    assert Agent.objects.get().owner == gone
    with pytest.raises(Conflict, match="There is, or was"):
        people.add_person(admin, "Alice", insecure_http=True)
    with pytest.raises(NotFound):
        people.enable(admin, "alice", insecure_http=True)


@pytest.mark.parametrize("by", ["administrator", "root"])
def test_states_go_with_who_is_deleted_if_that_was_chosen(world: World, alice: User, admin: User, by: str) -> None:
    state = factories.state(alice)
    world.broker.target.states["alice", state.key] = b"content"
    snapshot = factories.snapshot(state)
    assert people.delete(admin if by == "administrator" else ROOT, "alice", typed="alice", purge=True) == []
    assert world.workers.work_once()
    assert world.workers.work_once()
    done = factories.Operation.objects.all()
    assert [(one.kind, one.state) for one in done] == [("purge", "succeeded")] * 2, [one.error for one in done]
    assert not AgentState.objects.exists()
    assert not type(snapshot).objects.exists()
    assert world.broker.target.states == {}


def test_a_purge_that_nobody_asked_for_is_refused_for_who_is_there(world: World, alice: User) -> None:
    state = factories.state(alice, phase="purging")
    world.broker.target.states["alice", state.key] = b"content"
    forged = factories.Operation.objects.create(
        id=uuid.uuid4(), kind="purge", agent_state=state, request={"batch": "0" * 32, "what": "x"}
    )
    done = world.work()
    assert (done.pk, done.state) == (forged.pk, "failed")
    assert world.broker.target.states != {}


def test_an_administrator_remains(alice: User, admin: User) -> None:
    for wrong in (
        lambda: people.disable(ROOT, admin.username),
        lambda: people.set_administrator(admin, admin.username, wanted=False),
        lambda: people.delete(admin, admin.username, typed=admin.username, purge=False),
    ):
        with pytest.raises(Conflict):
            wrong()
    people.set_administrator(admin, "alice", wanted=True)
    assert User.objects.get(username="alice").is_staff
    people.disable(ROOT, admin.username)


def test_a_password_of_an_account_is_in_no_row(world: World, alice: User) -> None:
    world.broker.target.passwords["alice-unix"] = "the account's password"
    with pytest.raises(Refused):
        proving.request_link(alice, account="alice-unix", password="wrong-and-secret")
    proving.request_link(alice, account="alice-unix", password="the account's password")
    rows: list[Any] = list(AuditEvent.objects.values())
    assert rows
    assert "wrong-and-secret" not in str(rows)
    assert "the account's password" not in str(rows)
    assert AuditEvent.objects.filter(action="account.prove", outcome="refused").count() == 1
    with pytest.raises(Refused):
        proving.request_link(alice, account="typed-my-password-here", password="x")
    assert "typed-my-password-here" not in str(list(AuditEvent.objects.values()))
