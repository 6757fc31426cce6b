"""Agent classes: the tool profiles that agents are launched from."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AgentClass(models.Model):
    """`source` is where its Dockerfile comes from: `builtin:<folder>` is docker/classes/<folder> of this release."""

    slug = models.SlugField(max_length=40, unique=True)
    title = models.CharField(max_length=80)
    description = models.TextField(blank=True)
    builtin = models.BooleanField(default=False)
    source = models.CharField(max_length=400)
    runtimes = models.JSONField(default=list)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["slug"]
        verbose_name_plural = "agent classes"

    def __str__(self) -> str:
        return self.slug
