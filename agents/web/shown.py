"""Operations and agents as the pages show them: titles, steps and outcomes in words."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from typing import Any, Final

from agents.models import Agent, Operation, OperationKind, OperationState, OperationStep
from agents.operations import lifecycle, retrying
from agents.operations.errors import Refused
from agents.operations.exile import Scope, asked_for
from agents.web.names import short_name

VERBS: Final[Mapping[str, str]] = {
    OperationKind.LAUNCH: "Launch",
    OperationKind.EJECT: "Eject",
    OperationKind.RECONCILE: "Reconcile",
    OperationKind.EXILE: "Eject all",
    OperationKind.SNAPSHOT: "Snapshot",
    OperationKind.RESTORE: "Restore",
    OperationKind.PURGE: "Purge",
}
STEP_TITLES: Final[Mapping[str, str]] = {
    "identity": "Look up the Unix account",
    "state": "Make its state ready",
    "mounts": "Open the folders as that account",
    "image": "Make the image ready",
    "network": "Make a network of its own",
    "container": "Start the container, held at its gate",
    "verify": "Compare the mounts with what was granted",
    "ready": "Open the gate, attach the terminal",
    "stop": "Stop its processes",
    "remove": "Remove container and network",
    "snapshot-check": "Look up state and account",
    "snapshot-copy": "Read the state as that account; an agent is frozen meanwhile",
    "snapshot-store": "Store it, read it back and compare",
    "purge-check": "Look who asked for it",
    "purge-eject": "Wait until its agent has ended",
    "purge": "Delete it",
    "restore-check": "Look up snapshot, state and account",
    "restore": "Verify the snapshot and put it in place",
}
_FORMS: Final[Mapping[str, tuple[str, str]]] = {  # class of operations.css, word
    OperationStep.State.WAITING: ("todo", "waits"),
    OperationStep.State.RUNNING: ("now", "in progress"),
    OperationStep.State.SUCCEEDED: ("done", "done"),
    OperationStep.State.FAILED: ("bad", "failed"),
    OperationStep.State.SKIPPED: ("todo", "left out"),
}


def step_title(name: str) -> str:
    return STEP_TITLES.get(name, name.replace("-", " ").capitalize())


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownStep:
    name: str
    title: str
    form: str
    word: str
    message: str
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None


def shown_step(step: OperationStep, *, agents: bool = False) -> ShownStep:
    form, word = _FORMS.get(step.state, ("todo", step.state))
    return ShownStep(
        name=step.name,
        title=step.name if agents else step_title(step.name),  # an exile's steps are agents
        form=form,
        word=word,
        message=step.message,
        started_at=step.started_at,
        finished_at=step.finished_at,
    )


class ShownOperation:
    """An operation with words. What is not defined here is the row's own: `pk`, `state`, `created_at` …"""

    def __init__(self, row: Operation) -> None:
        self.row = row
        self.steps_shown = [shown_step(step, agents=row.kind == OperationKind.EXILE) for step in row.steps.all()]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.row, name)

    @property
    def is_launch(self) -> bool:
        return self.row.kind == OperationKind.LAUNCH

    @property
    def can_cancel(self) -> bool:
        return self.row.is_open and self.row.kind in lifecycle.CANCELLABLE

    @property
    def cancel_words(self) -> str:
        return "Leave the rest alone" if self.row.kind == OperationKind.EXILE else "Cancel"

    @property
    def can_retry(self) -> bool:
        return retrying.can_retry(self.row)

    @property
    def needs_form(self) -> bool:
        return retrying.needs_form(self.row)

    @property
    def title(self) -> str:
        if self.row.kind == OperationKind.EXILE:
            return _exile_title(self.row)
        verb = VERBS.get(self.row.kind, self.row.kind)
        return f"{verb} {short_name(self.row.agent)}" if self.row.agent else verb

    @property
    def short(self) -> str:
        return self.row.id.hex[:8]

    @property
    def steps_total(self) -> int:
        return max(1, len(self.steps_shown))

    @property
    def steps_done(self) -> int:
        return sum(step.form == "done" for step in self.steps_shown)

    @property
    def progress_words(self) -> str:
        """`step 3 of 7, make the image ready`."""
        if self.row.state == OperationState.QUEUED:
            return "waits for its turn"
        now = [(n, step) for n, step in enumerate(self.steps_shown, start=1) if step.form == "now"]
        if not now:
            return f"{self.steps_done} of {self.steps_total} steps done"
        if self.row.kind == OperationKind.EXILE:
            return f"{self.steps_done} of {self.steps_total} agents have ended"
        number, step = now[0]
        return f"step {number} of {self.steps_total}, {step.title[:1].lower()}{step.title[1:]}"

    @property
    def note(self) -> str:
        """One line for lists: where it is, or why it failed."""
        if self.row.is_open:
            return "being cancelled" if self.row.cancel_requested else self.progress_words
        return self.row.error if self.row.state == OperationState.FAILED else ""

    @property
    def summary(self) -> str:
        person = self.row.requested_by
        by = f"Asked for by {person.username}" if person else "Started by the service itself"
        return by if self.row.attempt <= 1 else f"{by}, attempt {self.row.attempt}"

    @property
    def failed_title(self) -> str:
        for number, step in enumerate(self.steps_shown, start=1):
            if step.name == self.row.failed_step and self.row.kind != OperationKind.EXILE:
                return f"Failed at step {number} of {self.steps_total}: {step.title[:1].lower()}{step.title[1:]}"
        return f"{VERBS.get(self.row.kind, 'It')} failed"

    @property
    def undone(self) -> str:
        """What a failure or a cancel leaves behind, in words."""
        if self.is_launch:
            return "What it had made is removed: nothing of this launch is left running."
        if self.row.kind in (OperationKind.SNAPSHOT, OperationKind.RESTORE):
            return "Nothing half made is left; an agent that was frozen goes on."
        return "What is left is looked for and removed again at the next eject, and once a minute by the service."

    @property
    def done_words(self) -> str:
        if self.row.kind == OperationKind.EJECT:
            return "Its container and its network are gone. What it wrote into mounted folders stays."
        if self.row.kind == OperationKind.EXILE:
            return "All have ended. What they wrote into mounted folders stays."
        if self.is_launch:
            return "It was launched, and has ended since."
        if self.row.kind == OperationKind.PURGE:
            return "Nothing is left of it."
        if self.row.kind == OperationKind.SNAPSHOT:
            return "The snapshot is stored, was read back and compared."
        if self.row.kind == OperationKind.RESTORE:
            name = self.row.agent_state.name if self.row.agent_state else "The state"
            return f"{name} holds what the snapshot held. The launch form offers it."
        return ""


def _exile_title(row: Operation) -> str:
    try:
        scope, person = asked_for(row)
    except Refused:
        return "Eject all"
    if scope == Scope.EVERYONE:
        return "Eject everybody's agents"
    return "Eject all of mine" if scope == Scope.OWN else f"Eject all of {person}"


def shown_operations(rows: Iterable[Operation]) -> list[ShownOperation]:
    return [ShownOperation(row) for row in rows]


def latest_operation(agent: Agent, *, kind: str | None = None) -> Operation | None:
    """The newest operation of an agent that the caller was allowed to see; what nobody waited for is none of them."""
    rows = (
        agent.operations.exclude(kind=OperationKind.RECONCILE)
        .select_related("agent__owner", "requested_by")
        .prefetch_related("steps")
    )
    return (rows.filter(kind=kind) if kind else rows).order_by("-created_at").first()
