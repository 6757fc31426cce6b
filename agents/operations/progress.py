"""What a worker writes while it works: steps and output, all of it only while it holds the lease."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from django.db import transaction
from django.utils import timezone

from agents.engine.errors import Cancelled as EngineCancelled
from agents.engine.errors import EngineError
from agents.models import Operation, OperationLog, OperationState, OperationStep
from agents.operations import leases
from agents.operations.errors import Cancelled, OperationError
from agents.operations.text import shortened, visible

PIECE = 4096  # characters of one row of output
MOST_PIECES = 64  # rows kept for one operation
FLUSH_AFTER = 0.5  # seconds
LOOK_AFTER = 0.5  # seconds between two looks for a cancel request


class Progress:
    """The pen for one taken operation. Not for several threads."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self._lines: list[str] = []
        self._size = 0
        self._flushed = time.monotonic()
        self._looked = 0.0
        self._stop = False

    @contextlib.contextmanager
    def step(self, name: str, *, last: bool = False) -> Iterator[None]:
        """Run one named step: raises Cancelled or LeaseLost before it, marks it as failed when it raises.

        The `last` one has to end the operation itself and to call `close_steps`: then there is no lease any more.
        """
        self.check()
        self._mark(name, OperationStep.State.RUNNING)
        try:
            yield
        except leases.LeaseLost:
            raise
        except Exception as error:
            self.flush()
            self._mark(name, OperationStep.State.FAILED, message=explain(error))
            raise
        self.flush()
        if not last:
            self._mark(name, OperationStep.State.SUCCEEDED)

    def check(self) -> None:
        """Raises LeaseLost, or Cancelled when somebody asked for it."""
        row = Operation.objects.filter(
            pk=self.operation.pk, state=OperationState.RUNNING, lease_owner=self.operation.lease_owner
        )
        stop = row.values_list("cancel_requested", flat=True).first()
        if stop is None:
            raise leases.LeaseLost
        if stop:
            raise Cancelled("It was cancelled.")

    def cancelled(self) -> bool:
        """For long calls to ask often: looks at the row at most twice a second. True as well when the lease is lost."""
        if not self._stop and time.monotonic() - self._looked > LOOK_AFTER:
            self._looked = time.monotonic()
            try:
                self.check()
            except (Cancelled, leases.LeaseLost):
                self._stop = True
        return self._stop

    def log(self, line: str) -> None:
        """Add a line of output; written in pieces, the oldest go first."""
        text = shortened(visible(line.rstrip("\r\n")), most=PIECE)
        self._lines.append(text)
        self._size += len(text) + 1
        if self._size >= PIECE or time.monotonic() - self._flushed > FLUSH_AFTER:
            self.flush()

    def flush(self) -> None:
        self._flushed = time.monotonic()
        if not self._lines:
            return
        text, self._lines, self._size = "\n".join(self._lines), [], 0
        with transaction.atomic():
            OperationLog.objects.create(operation=self.operation, text=text)
            pieces = OperationLog.objects.filter(operation=self.operation).order_by("-pk")
            if oldest := pieces.values_list("pk", flat=True)[MOST_PIECES : MOST_PIECES + 1].first():
                OperationLog.objects.filter(operation=self.operation, pk__lte=oldest).delete()

    def succeeded(self, name: str) -> bool:
        """Whether the step `name` was done, by whichever attempt."""
        return OperationStep.objects.filter(
            operation=self.operation, name=name, state=OperationStep.State.SUCCEEDED
        ).exists()

    def close_steps(self, *, running: str) -> None:
        """For the transaction that ends the operation: what still runs becomes `running`, what waits is skipped."""
        steps = OperationStep.objects.filter(operation=self.operation)
        steps.filter(state=OperationStep.State.RUNNING).update(state=running, finished_at=timezone.now())
        steps.filter(state=OperationStep.State.WAITING).update(state=OperationStep.State.SKIPPED)

    def _mark(self, name: str, state: str, *, message: str = "") -> None:
        now = timezone.now()
        begins = state == OperationStep.State.RUNNING
        times = {"started_at": now, "finished_at": None} if begins else {"finished_at": now}
        with transaction.atomic():
            mine = Operation.objects.filter(
                pk=self.operation.pk, state=OperationState.RUNNING, lease_owner=self.operation.lease_owner
            )
            if not mine.update(step=name):
                raise leases.LeaseLost
            OperationStep.objects.filter(operation=self.operation, name=name).update(
                state=state, message=message, **times
            )
        self.operation.step = name


def explain(error: BaseException) -> str:
    """A sentence for the operator. Of an unexpected error only the kind: its text may hold anything."""
    if isinstance(error, OperationError | EngineError):
        return visible(error.message)
    return (
        f"Something unexpected went wrong ({type(error).__name__}); the administrator finds it in the output of serve."
    )


def remedy_of(error: BaseException) -> str:
    return visible(error.remedy) if isinstance(error, OperationError | EngineError) else ""


def is_cancel(error: BaseException) -> bool:
    return isinstance(error, Cancelled | EngineCancelled)
