"""The launch form: text to a LaunchRequest, and every refusal at the field that it is about."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from django import forms
from django.http import QueryDict

from agents.models import AgentClass, AgentState, Operation
from agents.operations import selectors
from agents.operations.errors import Invalid, OperationError
from agents.operations.launch import GIB, LEAST_CPUS, LEAST_MEMORY_GB, LEAST_PIDS, LaunchRequest
from agents.operations.mounts import MOST_MOUNTS, mounts_of_request
from agents.operations.permissions import Person
from agents.operations.retrying import state_again
from agents.operations.states import offered_for
from agents.web.forms import mounts
from agents.web.names import runtime_title

ENVIRONMENT_HELP = (
    "Handed to the agent once, when it starts, and kept nowhere: not in the database, in no log, not in the "
    "container's settings. The agent and everything that it runs can read them. For Claude Code: ANTHROPIC_API_KEY=… "
    "or CLAUDE_CODE_OAUTH_TOKEN=…; without one you sign in inside the terminal."
)


MOST_STATES = 50  # offered

N = TypeVar("N", forms.FloatField, forms.IntegerField)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One field to correct; `id` is what a link jumps to."""

    id: str
    label: str


def _number(label: str, *, field: type[N], mode: str, invalid: str) -> N:
    widget = forms.TextInput(attrs={"class": "input", "inputmode": mode, "autocomplete": "off", "maxlength": 40})
    return field(
        label=label, widget=widget, error_messages={"required": f"Give a number for {label}.", "invalid": invalid}
    )


class LaunchForm(forms.Form):
    """Bound, it holds what was typed; `mounts` are its rows. Policy is not its business."""

    class_slug = forms.CharField(label="Class", error_messages={"required": "Choose a class."})
    runtime = forms.CharField(widget=forms.Select(attrs={"class": "select"}), help_text="what the terminal shows")
    state = forms.CharField(
        required=False,
        widget=forms.Select(attrs={"class": "select"}),
        help_text="Logins, settings and history of its program. It survives eject; one agent at a time has it.",
    )
    cpus = _number("CPUs", field=forms.FloatField, mode="decimal", invalid="Give a number, like 2 or 1.5.")
    memory_gb = _number("Memory, GB", field=forms.FloatField, mode="decimal", invalid="Give a number, like 4 or 0.5.")
    pids = _number("Processes", field=forms.IntegerField, mode="numeric", invalid="Give a whole number, like 512.")
    environment = forms.CharField(
        required=False,
        strip=False,
        help_text=ENVIRONMENT_HELP,
        widget=forms.Textarea(
            attrs={
                "class": "area mono",
                "rows": 4,
                "autocomplete": "off",
                "autocapitalize": "none",
                "spellcheck": "false",
                "placeholder": "ANTHROPIC_API_KEY=…",
            }
        ),
    )
    most_mounts = MOST_MOUNTS

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        person: Person,
        rows: list[mounts.MountRow] | None = None,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        self.classes: list[AgentClass] = list(selectors.classes_for(person))
        self.limits = selectors.machine_limits()
        self.mounts = rows or [mounts.project_row()]
        self.mounts_errors: list[str] = []
        super().__init__(data, initial=self._defaults() | dict(initial or {}))
        choices = dict.fromkeys(runtime for one in self.classes for runtime in one.offered)
        self.fields["runtime"].widget.choices = [(r, runtime_title(r)) for r in choices]
        self.states = list(offered_for(person)[:MOST_STATES])
        self.fields["state"].widget.choices = [("", "A fresh one"), *((one.key, _words(one)) for one in self.states)]
        if not self.is_bound and self.initial.get("state") not in {one.key for one in self.states}:
            self.initial["state"] = "" if "state" in (initial or {}) or not self.states else self.states[0].key
        self.fields["cpus"].help_text = f"{LEAST_CPUS:g} to {self.limits.cpus}"
        self.fields["memory_gb"].help_text = f"{LEAST_MEMORY_GB:g} to {self.limits.memory_gb:g}"
        self.fields["pids"].help_text = f"{LEAST_PIDS} to {self.limits.pids}"

    def _defaults(self) -> dict[str, Any]:
        first = self.classes[0] if self.classes else None
        return {
            "class_slug": first.slug if first else "",
            "runtime": first.offered[0] if first and first.offered else "",
            "cpus": f"{min(2, self.limits.cpus):g}",
            "memory_gb": f"{min(4.0, self.limits.memory_gb):g}",
            "pids": str(min(512, self.limits.pids)),
            "environment": "",
        }

    @property
    def empty_mount(self) -> mounts.MountRow:
        """What script copies for a further row."""
        return mounts.blank_row(mounts.TEMPLATE_INDEX)

    def request(self) -> LaunchRequest:
        """What is asked for; only after `is_valid()`. Raises Invalid for an environment that cannot be read."""
        cleaned = self.cleaned_data
        return LaunchRequest(
            class_slug=cleaned["class_slug"],
            runtime=cleaned["runtime"],
            mounts=tuple(row.request() for row in self.mounts),
            cpus=cleaned["cpus"],
            memory_gb=cleaned["memory_gb"],
            pids=cleaned["pids"],
            state=cleaned["state"],
            environment=cleaned["environment"],
        )

    def take(self, refusal: OperationError) -> None:
        """Put each message of `refusal` at its field; one that is about no field above the form."""
        if not isinstance(refusal, Invalid):
            self.add_error(None, f"{refusal.message} {refusal.remedy}".strip())
            return
        for index, row in enumerate(self.mounts):
            row.errors = refusal.mount_errors(index)
        for field, messages in refusal.errors.items():
            if field == "mounts":
                self.mounts_errors += messages
            elif not self._is_a_rows(field):
                for message in messages:
                    self.add_error(field if field in self.fields else None, message)

    def _is_a_rows(self, field: str) -> bool:
        list_name, _, rest = field.partition(".")
        index = rest.partition(".")[0]
        return list_name == "mounts" and index.isdecimal() and int(index) < len(self.mounts)

    def problems(self) -> list[Problem]:
        """The fields to correct, in the order of the page."""
        rows = [
            Problem(
                id=f"{row.id}-{'source' if part == 'mode' else part}",
                label=f"{part.capitalize()} of mount {row.number}",
            )
            for row in self.mounts
            for part in ("source", "destination", "mode")
            if row.errors.get(part)
        ]
        if self.mounts_errors:
            rows.append(Problem(id=f"{self.mounts[0].id}-source", label="Mounts"))
        fields = [name for name in self.fields if self.is_bound and name in self.errors]
        shown = {name: Problem(id=f"id_{name}", label=str(self[name].label)) for name in fields}
        first = [shown.pop("class_slug")] if "class_slug" in shown else []
        return [*first, *rows, *shown.values()]


def _words(state: AgentState) -> str:
    used = f"last used {state.last_used_at:%Y-%m-%d}" if state.last_used_at else "not used yet"
    return f"Go on with {state.name}, {used}"


def form_of(operation: Operation, *, person: Person) -> LaunchForm:
    """The form filled in as an earlier launch was; its environment values were never kept."""
    initial: dict[str, Any] = {}
    if agent := operation.agent:
        initial = {
            "class_slug": agent.agent_class.slug,
            "runtime": agent.runtime,
            "cpus": f"{agent.cpus:g}",
            "memory_gb": f"{agent.memory / GIB:g}",
            "pids": agent.pids,
            "state": state_again(operation),
        }
    return LaunchForm(
        person=person, rows=mounts.asked_rows(mounts_of_request(operation.request) or ()), initial=initial
    )
