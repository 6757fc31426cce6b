"""Every change is in the audit, in its own transaction; a function that writes rows and is in no table fails."""

from __future__ import annotations

import ast
import pathlib
from typing import Any

import pytest
from django.db import models

from agents.models import (
    Agent,
    AgentState,
    AuditEvent,
    HostAccount,
    MountGrant,
    Operation,
    OperationLog,
    OperationStep,
    StateSnapshot,
    User,
)
from agents.operations import (
    audit,
    launch,
)
from agents.operations.errors import OperationError
from tests.db.audit_changes import CHANGES
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
    "links.mirror": "unlink",
    "links._mirror_one": "link",
    "ending._cancel_launch": "disable while a launch runs",
    "ending._end": "disable",
    "invitations.make": "invite",
    "invitations.use": "use of a link",
    "invitations.void": "invite",
    "people._lock_out": "disable",
    "people.add_person": "invite",
    "people.delete": "delete",
    "people.disable": "disable",
    "people.enable": "enable",
    "people.set_administrator": "administrator",
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
    "restoring.Restoring._forget_new_state": "run refused restore",
    "restoring.Restoring._forget_saved": "run refused replacement",
    "restoring.Restoring._new_state": "run restore",
    "restoring.Restoring.run": "run restore",
    "purge_running.delete_snapshot_row": "run purge of a snapshot",
    "purging._purge_snapshot": "purge of a snapshot",
    "purging._purge_state": "purge",
    "purging._queue": "purge",
    "snapshot_sweep._forget": "sweep snapshots",
    "states.delete_row": "run purge",
    "states.for_launch": "launch",
    "states.forget_unused": "fail launch",
    "snapshots.request_restore": "restore",
    "snapshots.request_snapshot": "snapshot",
    "snapshotting.keep": "run snapshot",
    "snapshotting.run_snapshot": "run snapshot",
    "transitions.move_agent": "run launch",
    "transitions.move_operation": "run launch",
}
BOOKKEEPING: dict[str, str] = {
    "audit.record": "it is the audit",
    "launching._Launch._start": "what the engine calls the container of a launch that is in the audit",
    "leases._take": "which process works on an operation that is in the audit",
    "leases.beat": "that it still does",
    "progress.Progress.flush": "output",
    "state_sweep._measure": "how large something is",
    "states.mark_used": "the end of its launch is in the audit",
    "snapshotting.making": "what a snapshot that is in the audit is going to be; it counts once it is kept",
    "snapshotting.discard": "the same, when it came to nothing: the end of its operation is in the audit",
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


# Where an operation is, and who works on it, is bookkeeping: it may change although nothing is written down.
_NOT_COMPARED = {
    Operation: {"state", "step", "attempt", "lease_owner", "lease_until", "heartbeat", "started_at"},
    User: {"last_login"},
}


def rows() -> dict[str, list[dict[str, Any]]]:
    """All that an audit event has to tell of."""
    found: dict[str, list[dict[str, Any]]] = {}
    tables: tuple[type[models.Model], ...] = (
        *(Agent, Operation, MountGrant, HostAccount, User),
        *(AgentState, StateSnapshot),
    )
    for model in tables:
        left_out = _NOT_COMPARED.get(model, set())
        names = [field.attname for field in model._meta.concrete_fields if field.attname not in left_out]
        found[model.__name__] = list(model._default_manager.order_by("pk").values(*names))
    # New output is bookkeeping, too; that old output goes is not.
    found["output"] = list(OperationLog.objects.filter(text="old").values("pk"))
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
