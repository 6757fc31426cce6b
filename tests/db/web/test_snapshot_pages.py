"""The pages of snapshots: list, panel, taking one, the choice where it goes back."""

from __future__ import annotations

from collections.abc import Callable

from django.template.loader import render_to_string
from django.test import Client, RequestFactory

from agents.models import Operation, User
from tests import factories
from tests.db.web.html import Page, html_of

AtPage = Callable[[User | None], Client]


def test_the_list_says_age_size_and_what_became_of_the_state(at_page: AtPage, alice: User) -> None:
    factories.snapshot(factories.state(alice), size=3 * 1024**2, reason="before \u202e it went")
    factories.snapshot(factories.state(alice), state=None, with_logins=True)
    html = html_of(at_page(alice).get("/snapshots"))
    assert "3 MB" in html
    assert "purged since" in html
    assert "inside" in html
    assert "\u202e" not in html
    assert len(Page(html).all("time")) >= 2


def test_without_any_the_list_says_where_they_come_from(at_page: AtPage, alice: User, bob: User) -> None:
    factories.snapshot(factories.state(bob))
    html = html_of(at_page(alice).get("/snapshots"))
    assert "no snapshots yet" in html
    assert "jackin-bob" not in html


def test_taking_one_leads_to_its_steps(at_page: AtPage, alice: User) -> None:
    state = factories.state(alice)
    answer = at_page(alice).post(f"/states/{state.key}/snapshot", {"with_logins": "on"})
    operation = Operation.objects.get()
    assert answer["Location"] == f"/operations/{operation.pk}"
    assert operation.request["with_logins"] is True
    page = html_of(at_page(alice).get(answer["Location"]))
    assert "frozen meanwhile" in page
    assert "Cancel" in page


def test_logins_stay_out_unless_they_are_asked_for(at_page: AtPage, alice: User) -> None:
    at_page(alice).post(f"/states/{factories.state(alice).key}/snapshot")
    assert Operation.objects.get().request["with_logins"] is False


def test_restoring_into_a_new_state_and_over_the_old_one(at_page: AtPage, alice: User) -> None:
    state = factories.state(alice)
    snapshot = factories.snapshot(state)
    client = at_page(alice)
    assert "snapshotted first" in html_of(client.get(f"/snapshots/{snapshot.key}/restore"))
    client.post(f"/snapshots/{snapshot.key}/restore", {"into": "new"})
    assert Operation.objects.get().request["into"] == ""
    Operation.objects.update(state="succeeded")
    client.post(f"/snapshots/{snapshot.key}/restore", {"into": "same"})
    assert Operation.objects.get(state="queued").request["into"] == state.key


def test_a_state_in_use_is_not_offered_and_refused(at_page: AtPage, alice: User) -> None:
    state = factories.state(alice)
    snapshot = factories.snapshot(state)
    factories.agent(alice, agent_state=state)
    html = html_of(at_page(alice).get(f"/snapshots/{snapshot.key}/restore"))
    assert "uses this state" in html
    assert "Replace it" not in html
    assert at_page(alice).post(f"/snapshots/{snapshot.key}/restore", {"into": "same"}).status_code == 409
    assert not Operation.objects.exists()


def test_the_panel_of_a_state_lists_its_own_and_has_the_form(alice: User) -> None:
    state = factories.state(alice)
    snapshot = factories.snapshot(state)
    request = RequestFactory().get("/")
    html = render_to_string("agents/partials/_snapshots.html", {"state": state, "snapshots": [snapshot]}, request)
    assert f"/snapshots/{snapshot.key}/restore" in html
    assert f"/states/{state.key}/snapshot" in html
