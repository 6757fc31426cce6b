"""Mount grants: which host path one agent got, as the broker really pinned it."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models

from agents.models.agents import Agent


class MountGrant(models.Model):
    """Written by the runner after the broker opened the path; a request that was refused leaves no grant."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="grants")
    position = models.PositiveSmallIntegerField()
    source_asked = models.CharField(max_length=4096)
    real_path = models.CharField(max_length=4096)
    device = models.PositiveBigIntegerField()
    inode = models.CharField(max_length=20)  # 64 bits unsigned: more than SQLite's integers hold
    destination = models.CharField(max_length=4096)
    mode = models.CharField(max_length=2, choices=[("ro", "read-only"), ("rw", "read and write")])
    granted_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    granted_at = models.DateTimeField(auto_now_add=True)
    reason = models.CharField(max_length=400)

    class Meta:
        ordering: ClassVar[list[str]] = ["agent", "position"]
        indexes: ClassVar[list[models.Index]] = [  # the ledger is searched by path, whole or from its beginning
            models.Index(fields=["real_path"]),
            models.Index(fields=["source_asked"]),
            models.Index(fields=["-granted_at"]),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["agent", "position"], name="one_grant_per_position"),
            models.UniqueConstraint(fields=["agent", "destination"], name="one_grant_per_destination"),
        ]

    def __str__(self) -> str:
        return f"{self.real_path} → {self.destination} ({self.mode})"
