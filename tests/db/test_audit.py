"""Every change is in the audit, in its own transaction; a function that writes rows and is in no table fails."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from django.db import models

from agents.engine.errors import EngineUnreachable
from agents.engine.types import AccountLink
from agents.models import (
    Agent,
    AuditEvent,
    HostAccount,
    MountGrant,
    Operation,
    OperationLog,
    OperationStep,
    User,
)
from agents.operations import accounts, audit, exile, launch, lifecycle, reconcile, retention, retrying
from agents.operations.ejecting import exile_here
from agents.operations.errors import OperationError
from agents.operations.exile import Scope
from tests import factories
from tests.db.conftest import World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("gate")]

OPERATIONS = pathlib.Path(launch.__file__).parent
WRITES = frozenset(
    {"create", "bulk_create", "get_or_create", "update_or_create", "update", "bulk_update", "save", "delete"}
)
NO_ROWS = frozenset({"hashlib", "dict", "set"})

# Every function that writes rows, and what shows that it is audited: a scenario below, or why none is needed.
AUDITED: dict[str, str] = {
    "accounts._use_up_one_time_password": "one-time password",
    "accounts.first_administrator": "first administrator",
    "accounts.add_person": "add person",
    "accounts.renew_one_time_password": "renew one-time password",
    "accounts.change_password": "change password",
    "accounts.mirror_links": "unlink",
    "accounts._mirror_one": "link",
    "exile._create": "exile",
    "launch._create": "launch",
    "launch.add_steps": "launch",
    "lifecycle.queue_eject": "eject",
    "lifecycle.cancel_operation": "cancel",
    "launching._Launch._stage": "run launch",
    "launching._Launch._end": "fail launch",
    "exiling._Exile._prepare": "exile",
    "exiling._Exile._update": "run exile",
    "reconcile._note": "reconcile",
    "retention._forget_logs": "forget",
    "retention._forget_operations": "forget",
    "transitions.move_agent": "run launch",
    "transitions.move_operation": "run launch",
}
BOOKKEEPING: dict[str, str] = {
    "audit.record": "it is the audit",
    "launching._Launch._start": "what the engine calls the container of a launch that is in the audit",
    "leases._take": "which process works on an operation that is in the audit",
    "leases.beat": "that it still does",
    "progress.Progress.flush": "output",
    "progress.Progress._mark": "where an operation is; its end is in the audit",
    "progress.Progress.close_steps": "the same, in the transaction of that end",
}


def writers() -> set[str]:
    """Names of all functions in agents/operations that write rows."""
    found: set[str] = set()

    def walk(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}"
            if (
                isinstance(child, ast.Call)
                and isinstance(child.func, ast.Attribute)
                and child.func.attr in WRITES
                and ast.unparse(child.func.value) not in NO_ROWS
            ):
                found.add(name)
            walk(child, inner)

    for path in OPERATIONS.glob("*.py"):
        walk(ast.parse(path.read_text()), path.stem)
    return found


def test_whoever_writes_rows_is_in_a_table() -> None:
    assert writers() == AUDITED.keys() | BOOKKEEPING.keys()
    assert set(AUDITED.values()) <= CHANGES.keys()


# ── Changes: what is prepared, and the change itself ──

Change = Callable[[World, User], Callable[[], object]]


def running(world: World, alice: User) -> Agent:
    launch.request_launch(alice, factories.launch_request())
    assert world.work().state == "succeeded"
    return Agent.objects.get()


def _launch(world: World, alice: User) -> Callable[[], object]:
    return lambda: launch.request_launch(alice, factories.launch_request())


def _run_launch(world: World, alice: User) -> Callable[[], object]:
    launch.request_launch(alice, factories.launch_request())
    return world.work


def _fail_launch(world: World, alice: User) -> Callable[[], object]:
    launch.request_launch(alice, factories.launch_request())
    world.engine.errors["start"] = EngineUnreachable("away")
    return world.work


def _retry(world: World, alice: User) -> Callable[[], object]:
    failed = _fail_launch(world, alice)()
    return lambda: retrying.request_retry(alice, failed.pk)  # type: ignore[attr-defined]


def _cancel(world: World, alice: User) -> Callable[[], object]:
    queued = launch.request_launch(alice, factories.launch_request())
    return lambda: lifecycle.request_cancel(alice, queued.pk)


def _cancel_running(world: World, alice: User) -> Callable[[], object]:
    under_way = factories.launch(alice, state="running", lease_owner="1.1.x")
    return lambda: lifecycle.request_cancel(alice, under_way.pk)


def _eject(world: World, alice: User) -> Callable[[], object]:
    agent = running(world, alice)
    return lambda: lifecycle.request_eject(alice, agent.key)


def _run_eject(world: World, alice: User) -> Callable[[], object]:
    _eject(world, alice)()
    return world.work


def _exile(world: World, alice: User) -> Callable[[], object]:
    running(world, alice)
    return lambda: exile.request_exile(alice, scope=Scope.OWN)


def _run_exile(world: World, alice: User) -> Callable[[], object]:
    _exile(world, alice)()
    return world.work


def _exile_here(world: World, alice: User) -> Callable[[], object]:
    running(world, alice)
    return lambda: exile_here(world.engines, streams=world.streams, scope=Scope.EVERYONE)


def _reconcile(world: World, alice: User) -> Callable[[], object]:
    running(world, alice)
    world.end(world.engine.target.containers()[0].id)
    return lambda: reconcile.reconcile(world.engines, streams=world.streams)


def _forget(world: World, alice: User) -> Callable[[], object]:
    agent = factories.agent(alice, state="failed")
    old = factories.launch(alice, agent=agent, state="failed", finished_at="2020-01-01T00:00:00Z")
    OperationLog.objects.create(operation=old, text="old")
    return retention.forget_old


def _link(world: World, alice: User) -> Callable[[], object]:
    link = AccountLink(web_user="alice", account="a", uid=1001, linked_at="2026-01-01T00:00:00+00:00", how="test")
    return lambda: accounts.mirror_links([link])


def _unlink(world: World, alice: User) -> Callable[[], object]:
    _link(world, alice)()
    return lambda: accounts.mirror_links([])


def _one_time(world: World, alice: User) -> Callable[[], object]:
    password = accounts.renew_one_time_password("alice")
    backend = accounts.OneTimeAwareBackend()
    return lambda: backend.authenticate(None, username="alice", password=password)


CHANGES: dict[str, Change] = {
    "launch": _launch,
    "run launch": _run_launch,
    "fail launch": _fail_launch,
    "retry": _retry,
    "cancel": _cancel,
    "cancel running": _cancel_running,
    "eject": _eject,
    "run eject": _run_eject,
    "exile": _exile,
    "run exile": _run_exile,
    "exile here": _exile_here,
    "reconcile": _reconcile,
    "forget": _forget,
    "link": _link,
    "unlink": _unlink,
    "one-time password": _one_time,
    "first administrator": lambda world, alice: lambda: accounts.first_administrator("root", password="p"),
    "add person": lambda world, alice: lambda: accounts.add_person("dave", insecure_http=True),
    "renew one-time password": lambda world, alice: lambda: accounts.renew_one_time_password("alice"),
    "change password": lambda world, alice: (
        lambda: accounts.change_password(alice, new="another good long one", old=factories.PASSWORD)
    ),
}
# Where an operation is, and who works on it, is bookkeeping: it may change although nothing is written down.
_NOT_COMPARED = {
    Operation: {"state", "step", "attempt", "lease_owner", "lease_until", "heartbeat", "started_at"},
    User: {"last_login"},
}


def rows() -> dict[str, list[dict[str, Any]]]:
    """All that an audit event has to tell of."""
    found: dict[str, list[dict[str, Any]]] = {}
    tables: tuple[type[models.Model], ...] = (Agent, Operation, MountGrant, HostAccount, User, OperationLog)
    for model in tables:
        left_out = _NOT_COMPARED.get(model, set())
        names = [field.attname for field in model._meta.concrete_fields if field.attname not in left_out]
        found[model.__name__] = list(model._default_manager.order_by("pk").values(*names))
    over = Operation.objects.filter(state__in=("succeeded", "failed", "cancelled"))
    found["over"] = list(over.order_by("pk").values("pk", "state"))
    found["closed"] = list(OperationStep.objects.filter(state="skipped").order_by("pk").values("pk"))
    return found


class AuditIsFull(Exception):
    """Stands for whatever keeps an event from being written."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_cannot_be_written_down_does_not_happen(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    change = CHANGES[name](world, alice)
    before = rows()

    def fail(*arguments: Any, **named: Any) -> None:
        raise AuditIsFull

    with monkeypatch.context() as patched:
        patched.setattr(audit, "record", fail)
        try:
            change()
        except (AuditIsFull, OperationError, AssertionError):
            pass
        else:
            assert name.startswith("run") or name in {"fail launch", "exile here"}, "nobody noticed"
    assert rows() == before


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_written_down_in_its_own_transaction(world: World, alice: User, name: str) -> None:
    change = CHANGES[name](world, alice)
    before, events = rows(), AuditEvent.objects.count()
    change()
    assert rows() != before, "this scenario changes nothing"
    assert AuditEvent.objects.count() > events
