"""Agents, with what each was granted."""

from __future__ import annotations

from django.contrib import admin

from agents.admin.base import ReadOnlyAdmin, ReadOnlyRows, shown
from agents.models import Agent, MountGrant


class GrantRows(ReadOnlyRows):
    model = MountGrant
    columns = ("source_asked", "real_path", "destination", "mode", "granted_at")


@admin.register(Agent)
class AgentAdmin(ReadOnlyAdmin):
    list_display = (shown("name"), "owner", "state", "agent_class", shown("runtime"), "created_at", "ended_at")
    list_filter = ("state", "agent_class")
    list_select_related = ("owner", "agent_class")
    search_fields = ("name", "owner__username", "key")
    date_hierarchy = "created_at"
    inlines = (GrantRows,)
