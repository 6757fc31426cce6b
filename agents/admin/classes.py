"""Agent classes."""

from __future__ import annotations

from django.contrib import admin

from agents.admin.base import ReadOnlyAdmin, shown
from agents.models import AgentClass


@admin.register(AgentClass)
class AgentClassAdmin(ReadOnlyAdmin):
    list_display = ("slug", shown("title"), shown("source"), "builtin", "enabled")
    list_filter = ("builtin", "enabled")
    search_fields = ("slug", "title")
