"""Operations: long work as rows, so that it survives the process that does it."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models

from agents.models.agents import Agent
from agents.models.fields import LenientJSONField
from agents.models.states import AgentState, StateSnapshot


class OperationKind(models.TextChoices):
    LAUNCH = "launch"
    EJECT = "eject"
    RECONCILE = "reconcile"
    SNAPSHOT = "snapshot"
    RESTORE = "restore"
    PURGE = "purge"
    EXILE = "exile"
    COPY_IMAGE = "copy-image"


class OperationState(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN_STATES = (OperationState.QUEUED, OperationState.RUNNING)


class Operation(models.Model):
    """`lease_owner` is the worker that has it until `lease_until`; who lost the lease may write nothing any more.

    `request` holds what was asked for (mounts as text); never a secret: `secrets_needed` says that the runner
    has to hold some in memory, or the work cannot be done. A launch with a state names it in `agent_state`, as a
    snapshot, restore or purge of it does: one at a time may be open.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=16, choices=OperationKind.choices)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="operations", null=True, blank=True)
    agent_state = models.ForeignKey(
        AgentState, on_delete=models.SET_NULL, related_name="operations", null=True, blank=True
    )
    snapshot = models.ForeignKey(
        StateSnapshot, on_delete=models.SET_NULL, related_name="operations", null=True, blank=True
    )
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="operations", null=True, blank=True
    )
    request = LenientJSONField(default=dict, blank=True)
    state = models.CharField(max_length=16, choices=OperationState.choices, default=OperationState.QUEUED)
    step = models.CharField(max_length=120, blank=True)
    lease_owner = models.CharField(max_length=80, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    heartbeat = models.DateTimeField(null=True, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    cancel_requested = models.BooleanField(default=False)
    error = models.TextField(blank=True)
    remedy = models.TextField(blank=True)
    failed_step = models.CharField(max_length=120, blank=True)
    secrets_needed = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "created_at"]),
            models.Index(fields=["requested_by", "-created_at"]),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=models.Q(state__in=["queued", "running", "succeeded", "failed", "cancelled"]),
                name="operation_state_is_known",
            ),
            models.UniqueConstraint(
                fields=["agent", "kind"],
                condition=models.Q(state__in=["queued", "running"]),
                name="one_open_operation_per_agent_and_kind",
            ),
            models.UniqueConstraint(
                fields=["agent_state"],
                condition=models.Q(state__in=["queued", "running"]),
                name="one_open_operation_per_state",
            ),
            models.UniqueConstraint(
                fields=["snapshot"],
                condition=models.Q(state__in=["queued", "running"]),
                name="one_open_operation_per_snapshot",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id.hex[:8]}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES


class OperationStep(models.Model):
    """One named step; `message` is a sentence for the operator."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        SKIPPED = "skipped"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=120)
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    message = models.TextField(blank=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["operation", "position"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["operation", "name"], name="one_step_per_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.state}"


class OperationLog(models.Model):
    """A piece of output of an operation; the oldest go when an operation has too many."""

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="log")
    at = models.DateTimeField(auto_now_add=True)
    text = models.TextField()

    class Meta:
        ordering: ClassVar[list[str]] = ["pk"]

    def __str__(self) -> str:
        return self.text[:80]
