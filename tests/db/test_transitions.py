"""States move only as the table says, and never without an audit event; events cannot be changed."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction

from agents.models import Agent, AgentStatus, AuditEvent, OperationState, User
from agents.operations import audit
from agents.operations.errors import Conflict
from agents.operations.transitions import AGENT_MOVES, OPERATION_MOVES, move_agent, move_operation
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("before", AgentStatus.values)
@pytest.mark.parametrize("after", AgentStatus.values)
def test_every_move_of_an_agent(alice: User, before: str, after: str) -> None:
    agent = factories.agent(alice, state=before)
    if after in AGENT_MOVES and before in AGENT_MOVES[after]:
        move_agent(agent, after, actor=alice, reason="why")
        assert (agent.state, Agent.objects.get().state) == (after, after)
        assert AuditEvent.objects.get().action == f"agent.{after}"
        return
    if after in AGENT_MOVES:
        with pytest.raises(Conflict, match=f"is {before}"):
            move_agent(agent, after, actor=alice)
    assert Agent.objects.get().state == before
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("before", OperationState.values)
@pytest.mark.parametrize("after", OPERATION_MOVES)
def test_every_move_of_an_operation(alice: User, before: str, after: str) -> None:
    operation = factories.launch(alice, state=before)
    assert move_operation(operation, after, actor=None) is (before in OPERATION_MOVES[after])
    operation.refresh_from_db()
    assert operation.state == (after if before in OPERATION_MOVES[after] else before)


def test_an_end_gives_the_lease_back(alice: User) -> None:
    operation = factories.launch(alice, state="running", lease_owner="1.2.3")
    assert not move_operation(operation, "failed", actor=None, only_if={"lease_owner": "other"})
    assert move_operation(operation, "failed", actor=None, only_if={"lease_owner": "1.2.3"}, error="why")
    operation.refresh_from_db()
    assert (operation.lease_owner, operation.finished_at is not None) == ("", True)
    assert AuditEvent.objects.get().summary == "why"


def test_unknown_states_are_refused_by_the_database(alice: User) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        factories.agent(alice, state="flying")


def test_two_live_agents_cannot_have_one_name(alice: User) -> None:
    first = factories.agent(alice)
    with pytest.raises(IntegrityError), transaction.atomic():
        factories.agent(alice, name=first.name)
    factories.agent(alice, name=first.name, state="ended")


def test_one_open_operation_of_a_kind(alice: User) -> None:
    first = factories.launch(alice)
    with pytest.raises(IntegrityError), transaction.atomic():
        factories.launch(alice, agent=first.agent)
    factories.launch(alice, agent=first.agent, state="failed")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE agents_auditevent SET actor = 'bob'",
        "DELETE FROM agents_auditevent",
        "REPLACE INTO agents_auditevent SELECT * FROM agents_auditevent",
    ],
)
def test_audit_events_are_append_only(alice: User, statement: str) -> None:
    event = audit.record("x", actor=alice)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEvent.objects.get(pk=event.pk).actor == "alice"


def test_long_texts_are_cut(alice: User) -> None:
    event = audit.record("x", actor=alice, summary="s" * 5000, detail={"path": "p" * 5000, "n": 1})
    event.refresh_from_db()
    assert len(event.summary) == 1000
    assert len(str(event.detail["path"])) == 1000
