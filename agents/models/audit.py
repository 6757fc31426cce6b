"""Audit events: what was done or refused, by whom; a database trigger keeps them from being changed."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from agents.models.fields import LenientJSONField


class AuditEvent(models.Model):
    """Holds names, not references: an event outlives the rows that it speaks of."""

    class Outcome(models.TextChoices):
        DONE = "done"
        REFUSED = "refused"
        FAILED = "failed"

    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=64, help_text="User name, or 'system'.")
    action = models.CharField(max_length=64)
    outcome = models.CharField(max_length=16, choices=Outcome.choices, default=Outcome.DONE)
    agent_key = models.CharField(max_length=32, blank=True)
    operation_id = models.CharField(max_length=32, blank=True)
    summary = models.CharField(max_length=1000, blank=True)
    detail = LenientJSONField(default=dict, blank=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-pk"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["agent_key"]),
            models.Index(fields=["actor", "action", "-at"]),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.outcome}"
