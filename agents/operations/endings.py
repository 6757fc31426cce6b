"""How a worker ends an operation that came to no good end: state, reason, remedy and step in one transaction."""

from __future__ import annotations

from django.db import transaction

from agents.models import Operation, OperationState, OperationStep
from agents.operations.errors import Refused
from agents.operations.leases import LeaseLost
from agents.operations.progress import Progress, explain, remedy_of
from agents.operations.transitions import move_operation


def fail_operation(operation: Operation, error: Exception, progress: Progress) -> None:
    """FAILED, with what `error` says. Raises LeaseLost."""
    with transaction.atomic(durable=True):
        moved = move_operation(
            operation,
            OperationState.FAILED,
            actor=operation.requested_by,
            only_if={"lease_owner": operation.lease_owner},
            error=explain(error),
            remedy=remedy_of(error),
            failed_step=operation.step,
        )
        if not moved:
            raise LeaseLost
        progress.close_steps(running=OperationStep.State.FAILED)


def refuse_unknown(operation: Operation) -> None:
    """End an operation that nobody here can do: else it would be taken again and again. Raises LeaseLost."""
    fail_operation(operation, Refused(f"This release does not do “{operation.kind}”."), Progress(operation))
