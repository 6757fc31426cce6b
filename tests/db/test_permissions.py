"""Who may do what, walked as a table: owner, colleague, auditor, administrator, stranger, nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from agents.models import Agent, AuditEvent, Operation, User
from agents.operations import permissions, selectors, snapshots, states
from agents.operations.errors import Conflict, NotFound, Refused
from agents.operations.launch import request_launch
from agents.operations.lifecycle import request_cancel, request_eject
from agents.operations.permissions import POLICY, Action, Role
from agents.operations.purging import request_purge
from agents.operations.retrying import request_retry
from agents.operations.terminals import get_terminal, record_attach
from tests import factories

pytestmark = pytest.mark.django_db

OTHERS = ("bob", "carol", "admin", "stranger", "anonymous", "inactive owner", "owner who must change the password")

BY_OBJECT: dict[Action, Callable[[Any, Agent, Operation], object]] = {
    Action.VIEW_AGENT: lambda who, agent, operation: selectors.get_agent(who, agent.key),
    Action.ATTACH_TERMINAL: lambda who, agent, operation: get_terminal(who, agent.key),
    Action.EJECT_AGENT: lambda who, agent, operation: request_eject(who, agent.key),
    Action.VIEW_OPERATION: lambda who, agent, operation: selectors.get_operation(who, operation.id),
    Action.CANCEL_OPERATION: lambda who, agent, operation: request_cancel(who, operation.id),
    Action.RETRY_OPERATION: lambda who, agent, operation: request_retry(who, failed_beside(operation).id),
    Action.PURGE_STATE: lambda who, agent, operation: request_purge(who, states=[_state_of(agent)]),
    Action.PURGE_SNAPSHOT: lambda who, agent, operation: request_purge(who, snapshots=[_snapshot_of(agent)]),
    Action.VIEW_STATE: lambda who, agent, operation: states.get_state(who, _state_of(agent)),
    Action.SNAPSHOT_STATE: lambda who, agent, operation: snapshots.request_snapshot(who, _state_of(agent)),
    Action.VIEW_SNAPSHOT: lambda who, agent, operation: snapshots.get_snapshot(who, _snapshot_of(agent)),
    Action.RESTORE_SNAPSHOT: lambda who, agent, operation: snapshots.request_restore(who, _snapshot_of(agent)),
}


def failed_beside(operation: Operation) -> Operation:
    """An eject of the same person's, that failed; of an operation that does not exist: itself."""
    if operation.requested_by is None:
        return operation
    agent = factories.agent(operation.requested_by, state="ejecting")
    return Operation.objects.create(kind="eject", agent=agent, requested_by=operation.requested_by, state="failed")


def _state_of(agent: Agent) -> str:
    """The key of a state of the agent's owner; of none for an agent that is not there."""
    if agent.pk is None:
        return "0" * 32
    agent.agent_state = agent.agent_state or factories.state(agent.owner)
    return agent.agent_state.key


def _snapshot_of(agent: Agent) -> str:
    if agent.pk is None:
        return "0" * 32
    _state_of(agent)
    return factories.snapshot(agent.agent_state).key


@pytest.fixture
def cast(alice: User, bob: User, carol: User, admin: User, stranger: User) -> dict[str, Any]:
    inactive, changing = User.objects.get(pk=alice.pk), User.objects.get(pk=alice.pk)
    inactive.is_active = False
    changing.must_change_password = True
    return {
        "alice": alice,
        "bob": bob,
        "carol": carol,
        "admin": admin,
        "stranger": stranger,
        "anonymous": AnonymousUser(),
        "inactive owner": inactive,
        "owner who must change the password": changing,
    }


def test_every_action_has_a_rule() -> None:
    assert POLICY.keys() == set(Action)
    without_object = {action for action, roles in POLICY.items() if Role.OWNER not in roles}
    assert POLICY.keys() - without_object == BY_OBJECT.keys(), "every action on a thing is walked below"


NOT_THEIRS = [
    (action, who)
    for action in BY_OBJECT
    for who in OTHERS
    if not (who == "admin" and Role.ADMINISTRATOR in POLICY[action])
]


@pytest.mark.parametrize("action", [Action.PURGE_STATE, Action.PURGE_SNAPSHOT])
def test_an_administrator_may_purge(cast: dict[str, Any], action: Action) -> None:
    launch, agent = factories.launch(cast["alice"]), factories.agent(cast["alice"])
    assert BY_OBJECT[action](cast["admin"], agent, launch)
    assert AuditEvent.objects.filter(action=action, actor=cast["admin"].username, outcome="done").exists()


@pytest.mark.parametrize(("action", "who"), NOT_THEIRS)
def test_nobody_but_the_owner(cast: dict[str, Any], action: Action, who: str) -> None:
    launch = factories.launch(cast["alice"])
    agent = factories.agent(cast["alice"])
    assert not permissions.can(cast[who], action, agent)
    with pytest.raises(NotFound) as theirs:
        BY_OBJECT[action](cast[who], agent, launch)
    launch.refresh_from_db()
    agent.refresh_from_db()
    assert (launch.state, launch.cancel_requested, agent.state) == ("queued", False, "running")
    assert AuditEvent.objects.filter(action=action, outcome="refused").count() == 1
    gone = Agent(key="f" * 32), Operation()
    with pytest.raises(NotFound) as missing:
        BY_OBJECT[action](cast[who], *gone)
    assert theirs.value.message == missing.value.message, "nobody can tell whose it is"


@pytest.mark.parametrize("action", BY_OBJECT)
def test_the_owner(cast: dict[str, Any], action: Action) -> None:
    launch, agent = factories.launch(cast["alice"]), factories.agent(cast["alice"])
    assert BY_OBJECT[action](cast["alice"], agent, launch)
    assert not AuditEvent.objects.filter(outcome="refused").exists()


@pytest.mark.parametrize("who", ["anonymous", "inactive owner", "owner who must change the password"])
def test_who_may_launch_nothing(cast: dict[str, Any], who: str) -> None:
    with pytest.raises(Refused):
        request_launch(cast[who], factories.launch_request())
    assert not Agent.objects.exists()


@pytest.mark.parametrize("who", ["bob", "carol", "admin", "stranger", "anonymous"])
def test_lists_hold_only_ones_own(cast: dict[str, Any], who: str) -> None:
    factories.launch(cast["alice"])
    assert not selectors.agents_for(cast[who]).exists()
    assert not selectors.operations_for(cast[who]).exists()
    assert selectors.agents_for(cast["alice"]).exists()
    assert selectors.operations_for(cast["alice"]).exists()


def test_classes_are_for_those_who_may_launch(cast: dict[str, Any]) -> None:
    factories.agent_smith()
    assert [one.slug for one in selectors.classes_for(cast["bob"])] == ["agent-smith"]
    assert not selectors.classes_for(cast["anonymous"]).exists()


@pytest.mark.parametrize("key", ["", "x" * 5000, "../..", "\x00", "0" * 32])
def test_nonsense_is_not_found(alice: User, key: str) -> None:
    with pytest.raises(NotFound):
        selectors.get_agent(alice, key)
    with pytest.raises(NotFound):
        selectors.get_operation(alice, key)


def test_asking_again_and_again_does_not_fill_the_audit(cast: dict[str, Any]) -> None:
    agent = factories.agent(cast["alice"])
    for _ in range(20):
        with pytest.raises(NotFound):
            selectors.get_agent(cast["bob"], agent.key)
    assert AuditEvent.objects.filter(actor="bob").count() == 1


def test_an_agent_that_has_ended_cannot_be_ejected(alice: User) -> None:
    agent = factories.agent(alice, state="ended")
    with pytest.raises(Conflict, match="ended already"):
        request_eject(alice, agent.key)


def test_looking_in_again_and_again_fills_no_disk(alice: User) -> None:
    first, second = factories.agent(alice), factories.agent(alice)
    for agent in (first, first, second, first):
        record_attach(alice, get_terminal(alice, agent.key))
    seen = AuditEvent.objects.filter(action=Action.ATTACH_TERMINAL, outcome=AuditEvent.Outcome.DONE)
    assert sorted(seen.values_list("agent_key", flat=True)) == sorted([first.key, second.key])
