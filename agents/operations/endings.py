"""How a worker ends an operation: state, reason, remedy and steps in one transaction, only while it has the lease."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.db import transaction

from agents.models import Operation, OperationKind, OperationState, OperationStep
from agents.operations import audit
from agents.operations.errors import Cancelled, OperationError, Refused, Unavailable
from agents.operations.leases import LeaseLost
from agents.operations.permissions import Action
from agents.operations.progress import Progress, explain, is_cancel, remedy_of
from agents.operations.transitions import move_operation

# What a person is refused when the runner looks at the rows again, and finds that they may not.
REFUSED: Final[Mapping[str, Action]] = {
    OperationKind.SNAPSHOT: Action.SNAPSHOT_STATE,
    OperationKind.RESTORE: Action.RESTORE_SNAPSHOT,
    OperationKind.PURGE: Action.PURGE_STATE,
}


def fail_operation(operation: Operation, error: Exception, progress: Progress, *, note: str = "") -> None:
    """FAILED, with what `error` says, or CANCELLED where that was asked for; `note` follows it. Raises LeaseLost."""
    cancelled = is_cancel(error)
    text = "It was cancelled; nothing of it is left." if cancelled else explain(error)
    with transaction.atomic(durable=True):
        moved = move_operation(
            operation,
            OperationState.CANCELLED if cancelled else OperationState.FAILED,
            actor=operation.requested_by,
            only_if={"lease_owner": operation.lease_owner},
            error=f"{text} {note}".strip(),
            remedy="" if cancelled else remedy_of(error),
            failed_step="" if cancelled else operation.step,
        )
        if not moved:
            raise LeaseLost
        progress.close_steps(running=OperationStep.State.FAILED)
        if operation.kind in REFUSED and _is_refusal(error):
            action, person = REFUSED[operation.kind], operation.requested_by
            audit.record_refusal(action, actor=person, operation=operation, summary=explain(error))


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, OperationError) and not isinstance(error, Cancelled | Unavailable)


def succeed_operation(operation: Operation, progress: Progress) -> None:
    """SUCCEEDED; inside the caller's transaction, with what was done. Raises LeaseLost."""
    mine = {"lease_owner": operation.lease_owner}
    if not move_operation(operation, OperationState.SUCCEEDED, actor=operation.requested_by, only_if=mine):
        raise LeaseLost
    progress.close_steps(running=OperationStep.State.SUCCEEDED)


def refuse_unknown(operation: Operation) -> None:
    """End an operation that nobody here can do: else it would be taken again and again. Raises LeaseLost."""
    fail_operation(operation, Refused(f"This release does not do “{operation.kind}”."), Progress(operation))
