"""What survives an agent: its state, one directory on the host, and archived copies of it."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models

from agents.models.agents import new_key
from agents.models.classes import AgentClass


class AgentState(models.Model):
    """One directory below states/, named by `key`; its files belong to the owner's Unix account.

    `name` is the agent's: the next launch under that name finds it again. `size` in bytes and `entries` are of the
    last measurement; None until there was one. The row is there before the directory and goes after it.
    """

    class Phase(models.TextChoices):
        KEPT = "kept"
        PURGING = "purging"

    key = models.CharField(max_length=32, unique=True, default=new_key, editable=False)
    name = models.CharField(max_length=120, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="agent_states")
    agent_class = models.ForeignKey(AgentClass, on_delete=models.PROTECT, related_name="agent_states")
    phase = models.CharField(max_length=16, choices=Phase.choices, default=Phase.KEPT)
    size = models.PositiveBigIntegerField(null=True, blank=True)
    entries = models.PositiveBigIntegerField(null=True, blank=True)
    has_logins = models.BooleanField(null=True, blank=True)
    measured_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["name"]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["owner", "phase"])]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=models.Q(phase__in=["kept", "purging"]), name="state_phase_is_known"),
        ]

    def __str__(self) -> str:
        return self.name


class StateSnapshot(models.Model):
    """An archived copy of a state: tar and zstd below snapshots/, named by `key`.

    `size` is the stored file's, `content_size` that of the files inside, both in bytes; `sha256` is the stored
    file's. A row in the phase MAKING has no verified file yet. `state` is None once that was purged.
    """

    class Phase(models.TextChoices):
        MAKING = "making"
        KEPT = "kept"
        PURGING = "purging"

    key = models.CharField(max_length=32, unique=True, default=new_key, editable=False)
    state = models.ForeignKey(AgentState, on_delete=models.SET_NULL, related_name="snapshots", null=True, blank=True)
    state_key = models.CharField(max_length=32)
    state_name = models.CharField(max_length=120)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="state_snapshots")
    agent_class = models.ForeignKey(AgentClass, on_delete=models.PROTECT, related_name="state_snapshots")
    phase = models.CharField(max_length=16, choices=Phase.choices, default=Phase.MAKING)
    with_logins = models.BooleanField(default=False)
    reason = models.CharField(max_length=200, blank=True)
    size = models.PositiveBigIntegerField(null=True, blank=True)
    content_size = models.PositiveBigIntegerField(null=True, blank=True)
    entries = models.PositiveBigIntegerField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at", "-pk"]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["owner", "-created_at"])]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=models.Q(phase__in=["making", "kept", "purging"]), name="snapshot_phase_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state_name}, {self.created_at:%Y-%m-%d %H:%M}"
