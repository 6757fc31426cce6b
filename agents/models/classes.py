"""Agent classes: the tool profiles that agents are launched from."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from agents.models.fields import LenientJSONField


class AgentClass(models.Model):
    """`source` is where its Dockerfile comes from: `builtin:<folder>` is docker/classes/<folder> of this release."""

    slug = models.SlugField(max_length=40, unique=True)
    title = models.CharField(max_length=80)
    description = models.TextField(blank=True)
    builtin = models.BooleanField(default=False)
    source = models.CharField(max_length=400)
    runtimes = LenientJSONField(default=list)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["slug"]
        verbose_name_plural = "agent classes"

    def __str__(self) -> str:
        return self.slug

    @property
    def offered(self) -> list[str]:
        """The runtimes, whatever stands in the row."""
        found = self.runtimes if isinstance(self.runtimes, list) else []
        return [name for name in found if isinstance(name, str)]
