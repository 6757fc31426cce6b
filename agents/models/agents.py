"""Agents: one row for each container that was ever asked for."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models

from agents.models.classes import AgentClass


class AgentStatus(models.TextChoices):
    STARTING = "starting"
    RUNNING = "running"
    EJECTING = "ejecting"
    ENDED = "ended"
    FAILED = "failed"


class SidecarKind(models.TextChoices):
    """The agent's own Docker engine: a rootless one in a container beside it, or none."""

    ROOTLESS = "rootless"
    NONE = "none"


LIVE_STATES = (AgentStatus.STARTING, AgentStatus.RUNNING, AgentStatus.EJECTING)


def new_key() -> str:
    return uuid.uuid4().hex


class Agent(models.Model):
    """`key` names it everywhere outside the database: in addresses, labels and the terminals process.

    `memory` is in bytes. `container_id` and `image` say what was made; nothing is ever looked up by them.
    """

    key = models.CharField(max_length=32, unique=True, default=new_key, editable=False)
    name = models.CharField(max_length=120)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="agents")
    agent_class = models.ForeignKey(AgentClass, on_delete=models.PROTECT, related_name="agents")
    runtime = models.CharField(max_length=40)
    state = models.CharField(max_length=16, choices=AgentStatus.choices, default=AgentStatus.STARTING)
    workdir = models.CharField(max_length=4096)
    cpus = models.FloatField()
    memory = models.PositiveBigIntegerField()
    pids = models.PositiveIntegerField()
    agent_state = models.ForeignKey(
        "AgentState", on_delete=models.SET_NULL, related_name="agents", null=True, blank=True
    )
    sidecar = models.CharField(max_length=16, choices=SidecarKind.choices, default=SidecarKind.NONE)
    image = models.CharField(max_length=200, blank=True)
    container_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    end_reason = models.CharField(max_length=1000, blank=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at", "-pk"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["owner", "state"]),
            models.Index(fields=["state"]),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(state__in=["starting", "running", "ejecting"]),
                name="one_live_agent_per_name",
            ),
            models.UniqueConstraint(
                fields=["agent_state"],
                condition=models.Q(state__in=["starting", "running", "ejecting"]),
                name="one_live_agent_per_state",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=["starting", "running", "ejecting", "ended", "failed"]),
                name="agent_state_is_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_live(self) -> bool:
        return self.state in LIVE_STATES
