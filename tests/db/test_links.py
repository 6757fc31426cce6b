"""A changed link is followed by every route: the mirror, the uid itself, who was switched off or deleted."""

from __future__ import annotations

import pytest

from agents.engine.errors import BrokerRefused
from agents.models import AuditEvent, HostAccount, Operation, User
from agents.operations import links, people
from agents.operations.people import ROOT
from tests import factories
from tests.db.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mirrored(world: World, alice: User) -> World:
    """alice is linked, and that is known."""
    links.follow(world.engines)
    assert HostAccount.objects.get().account == "alice-unix"
    return world


def test_as_long_as_nothing_changes_nothing_ends(mirrored: World, alice: User) -> None:
    agent = factories.agent(alice)
    assert links.follow(mirrored.engines) == 0
    agent.refresh_from_db()
    assert agent.state == "running"
    assert links.changes_for(alice) == []


def test_another_account_ends_agents_and_cancels_launches(mirrored: World, alice: User, bob: User) -> None:
    running, theirs, launch = factories.agent(alice), factories.agent(bob), factories.launch(alice)
    mirrored.broker.target.add_link("alice", "other-unix", uid=1003)
    assert links.follow(mirrored.engines) >= 1
    for row in (running, theirs, launch):
        row.refresh_from_db()
    assert (running.state, theirs.state, launch.state) == ("ejecting", "running", "cancelled")
    eject = Operation.objects.get(kind="eject")
    assert eject.requested_by is None, "the service itself asked"
    assert mirrored.work().state == "succeeded"
    running.refresh_from_db()
    assert "Unix account" in running.end_reason
    (told,) = links.changes_for(alice)
    assert "other-unix (1003)" in told.words
    assert "alice-unix (1001)" in told.words
    assert links.changes_for(bob) == []


def test_the_same_name_with_another_uid_is_another_account(mirrored: World, alice: User) -> None:
    agent = factories.agent(alice)
    mirrored.broker.target.add_link("alice", "alice-unix", uid=1099)
    links.follow(mirrored.engines)
    agent.refresh_from_db()
    assert agent.state == "ejecting"


def test_a_link_that_was_taken_away_ends_agents(mirrored: World, alice: User) -> None:
    agent = factories.agent(alice)
    mirrored.broker.target.unlink("alice")
    links.follow(mirrored.engines)
    agent.refresh_from_db()
    assert agent.state == "ejecting"
    assert not HostAccount.objects.exists()
    assert "taken away" in links.changes_for(alice)[0].words


@pytest.mark.parametrize(("code", "state"), [("account-changed", "ejecting"), ("name-service", "running")])
def test_a_uid_that_changed_under_the_same_link_is_noticed(mirrored: World, alice: User, code: str, state: str) -> None:
    agent = factories.agent(alice)
    mirrored.broker.errors["identity"] = BrokerRefused("The account is no longer the one.", code=code)
    links.follow(mirrored.engines)
    links.follow(mirrored.engines)
    agent.refresh_from_db()
    assert agent.state == state
    assert AuditEvent.objects.filter(action="account.changed").count() == (state == "ejecting")


def test_an_agent_of_who_is_off_ends_though_the_row_was_changed_past_the_operation(
    mirrored: World, alice: User
) -> None:
    agent = factories.agent(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    links.follow(mirrored.engines)
    agent.refresh_from_db()
    assert agent.state == "ejecting"


def test_who_was_deleted_loses_the_link_and_cannot_get_it_again(mirrored: World, alice: User, admin: User) -> None:
    people.delete(ROOT, "alice", typed="alice", purge=False)
    for _ in range(2):
        links.follow(mirrored.engines)
        assert [link.web_user for link in mirrored.broker.target.links()] == ["bob"]
        assert not HostAccount.objects.filter(user=alice).exists()
        mirrored.broker.target.add_link("alice", "alice-unix")
    links.follow(mirrored.engines)
    assert [link.web_user for link in mirrored.broker.target.links()] == ["bob"]
