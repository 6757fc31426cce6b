"""Audit events."""

from __future__ import annotations

from django.contrib import admin

from agents.admin.base import ReadOnlyAdmin, shown
from agents.models import AuditEvent


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", shown("actor"), shown("action"), "outcome", shown("summary"))
    list_display_links = ("at",)
    list_filter = ("outcome", "action")
    search_fields = ("actor", "action", "summary", "agent_key")
    date_hierarchy = "at"
