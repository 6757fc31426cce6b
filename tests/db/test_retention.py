"""What ended operations leave in the database goes after its time; what is open, live or audited stays."""

from __future__ import annotations

import datetime

import pytest
from django.utils import timezone

from agents.models import AuditEvent, Operation, OperationLog, User
from agents.operations import audit, retention
from agents.operations.launch import STEPS
from tests import factories

pytestmark = pytest.mark.django_db


def ended(owner: User, *, days: int, agent_state: str = "failed") -> Operation:
    when = timezone.now() - datetime.timedelta(days=days)
    agent = factories.agent(owner, state=agent_state)
    operation = factories.launch(owner, agent=agent, state="failed", finished_at=when)
    OperationLog.objects.create(operation=operation, text=f"output, {days} days old")
    return operation


def test_output_goes_after_a_month_and_the_row_after_a_year(alice: User) -> None:
    new, old, ancient = (ended(alice, days=days) for days in (29, 31, 366))
    audit.record("something", actor=alice, operation=ancient)
    assert retention.forget_old() == (2, 1)
    assert [one.operation for one in OperationLog.objects.all()] == [new]
    assert {*Operation.objects.all()} == {new, old}
    assert old.steps.count() == len(STEPS)
    assert AuditEvent.objects.filter(action="something", operation_id=ancient.id.hex).exists()
    assert {*AuditEvent.objects.filter(actor="system").values_list("action", flat=True)} == {
        "logs.forget",
        "operations.forget",
    }
    assert retention.forget_old() == (0, 0)
    assert AuditEvent.objects.filter(actor="system").count() == 2, "nothing was done, nothing is said"


def test_what_is_open_or_of_a_live_agent_stays(alice: User) -> None:
    running = ended(alice, days=1000, agent_state="running")
    under_way = factories.launch(alice)
    Operation.objects.filter(pk=under_way.pk).update(created_at=timezone.now() - datetime.timedelta(days=1000))
    OperationLog.objects.create(operation=under_way, text="still written to")
    retention.forget_old()
    assert {*Operation.objects.all()} == {running, under_way}
    assert [one.operation for one in OperationLog.objects.all()] == [under_way]


def test_it_goes_piece_by_piece(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST", 2)
    for _ in range(3):
        ended(alice, days=366)
    assert [retention.forget_old(), retention.forget_old()] == [(2, 2), (1, 1)]
    assert not Operation.objects.exists()
