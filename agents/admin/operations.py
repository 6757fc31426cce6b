"""Operations, with their steps."""

from __future__ import annotations

from django.contrib import admin

from agents.admin.base import ReadOnlyAdmin, ReadOnlyRows, shown
from agents.models import Operation, OperationStep


class StepRows(ReadOnlyRows):
    model = OperationStep
    columns = ("name", "state", "started_at", "finished_at", "message")


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "kind", "state", "agent", "requested_by", shown("step"), shown("error"))
    list_display_links = ("created_at",)
    list_filter = ("kind", "state")
    list_select_related = ("agent", "requested_by")
    search_fields = ("agent__name", "requested_by__username", "error")
    date_hierarchy = "created_at"
    inlines = (StepRows,)
