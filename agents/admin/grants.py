"""Who mounted what."""

from __future__ import annotations

from django.contrib import admin

from agents.admin.base import ReadOnlyAdmin, shown
from agents.models import MountGrant


@admin.register(MountGrant)
class MountGrantAdmin(ReadOnlyAdmin):
    list_display = ("granted_at", "granted_by", shown("real_path"), "mode", shown("destination"), "agent")
    list_display_links = ("granted_at",)
    list_filter = ("mode",)
    list_select_related = ("granted_by", "agent")
    search_fields = ("real_path", "source_asked", "destination", "agent__name", "granted_by__username")
    date_hierarchy = "granted_at"
