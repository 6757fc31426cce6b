"""Every refusal is in the audit, and nothing is ever taken out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from agents.models import AuditEvent, Operation, User
from agents.operations import accounts, audit, exile, launch, lifecycle
from agents.operations.errors import OperationError
from agents.operations.exile import Scope
from tests import factories
from tests.db.conftest import World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("gate")]


def _too_many(world: World, alice: User, settings: Any) -> object:
    settings.JACKIN_MAX_AGENTS = 0
    return launch.request_launch(alice, factories.launch_request())


REFUSALS: dict[str, tuple[str, Callable[[World, User, Any], object]]] = {
    "a launch that is wrong": (
        "agent.launch",
        lambda world, alice, settings: launch.request_launch(alice, factories.launch_request(class_slug="none")),
    ),
    "one agent too many": ("agent.launch", _too_many),
    "a cancel of what cannot be cancelled": (
        "operation.cancel",
        lambda world, alice, settings: lifecycle.request_cancel(
            alice, Operation.objects.create(kind="eject", agent=factories.agent(alice), requested_by=alice).pk
        ),
    ),
    "an exile of somebody else": (
        "exile.person",
        lambda world, alice, settings: exile.request_exile(alice, scope=Scope.PERSON, person="alice"),
    ),
    "a wrong old password": (
        "password.change",
        lambda world, alice, settings: accounts.change_password(alice, new="x" * 20, old="wrong"),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_written_down(world: World, alice: User, settings: Any, name: str) -> None:
    action, ask = REFUSALS[name]
    with pytest.raises(OperationError):
        ask(world, alice, settings)
    event = AuditEvent.objects.get(outcome="refused")
    assert (event.action, event.actor) == (action, "alice")


def test_what_the_runner_refuses_is_written_down_as_failed(world: World, alice: User, bob: User) -> None:
    factories.launch(bob, agent=factories.agent(alice, state="starting"))
    assert world.work().state == "failed"
    assert AuditEvent.objects.filter(action="operation.launch.failed", outcome="failed", actor="bob").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE agents_auditevent SET actor = 'nobody'",
        "DELETE FROM agents_auditevent",
        "INSERT OR REPLACE INTO agents_auditevent SELECT * FROM agents_auditevent",
    ],
)
def test_what_is_written_down_stays(alice: User, statement: str) -> None:
    audit.record("something", actor=alice)
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEvent.objects.get().actor == "alice"
