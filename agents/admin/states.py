"""What survives agents, to look at, and to choose what is purged; the purge itself is a page of the product's own."""

from __future__ import annotations

import datetime
import urllib.parse
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from agents.admin.base import ReadOnlyAdmin, shown, sized
from agents.admin.filters import ClassFilter, PersonFilter
from agents.models import AgentState, StateSnapshot
from agents.operations import permissions
from agents.operations.permissions import Action
from agents.operations.purging import MOST_AT_ONCE

MEGABYTE = 1024**2


class OlderFilter(admin.SimpleListFilter):
    """By when it was used last: what is in daily use is not old."""

    used = "last_used_at"

    title = "age"
    parameter_name = "older"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("30", "Older than 30 days"), ("90", "Older than 90 days"), ("365", "Older than a year")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in ("30", "90", "365"):
            return queryset
        before = timezone.now() - datetime.timedelta(days=int(self.value() or 0))
        old: QuerySet[Any] = queryset.annotate(used=Coalesce(self.used, "created_at")).filter(used__lt=before)
        return old


class SnapshotOlderFilter(OlderFilter):
    """By when it was taken."""

    used = "created_at"


class LargerFilter(admin.SimpleListFilter):
    """By the size on disk; what was not measured yet is in none."""

    title = "size"
    parameter_name = "larger"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("10", "Larger than 10 MB"), ("100", "Larger than 100 MB"), ("1000", "Larger than 1 GB")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        wanted = self.value()
        return queryset.filter(size__gt=int(wanted) * MEGABYTE) if wanted in ("10", "100", "1000") else queryset


class Purgeable(ReadOnlyAdmin):
    """A list to choose from what is purged: administrators see all of it on the next page, and confirm there."""

    actions = ("purge_chosen",)
    key = ""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Nobody else has the action, also not by naming it; Django's own deletion is for nobody."""
        may = permissions.can(request.user, Action.PURGE_ANY)
        return {name: one for name, one in super().get_actions(request).items() if may and name == "purge_chosen"}

    @admin.action(description="Purge …")
    def purge_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseRedirect | None:
        keys = list(queryset.values_list("key", flat=True)[: MOST_AT_ONCE + 1])
        if len(keys) > MOST_AT_ONCE:
            self.message_user(request, f"Choose at most {MOST_AT_ONCE} at a time.", messages.ERROR)
            return None
        return HttpResponseRedirect(f"{reverse('purge')}?{urllib.parse.urlencode([(self.key, one) for one in keys])}")


@admin.register(AgentState)
class AgentStateAdmin(Purgeable):
    key = "state"
    list_display = (
        shown("name"),
        "owner",
        "agent_class",
        "phase",
        sized("size"),
        "entries",
        "has_logins",
        "last_used_at",
        "created_at",
    )
    list_filter = ("phase", PersonFilter, ClassFilter, OlderFilter, LargerFilter, "has_logins")
    list_select_related = ("owner", "agent_class")
    search_fields = ("name", "owner__username", "key")


@admin.register(StateSnapshot)
class StateSnapshotAdmin(Purgeable):
    key = "snapshot"
    list_display = (
        "created_at",
        shown("state_name"),
        "owner",
        "agent_class",
        "phase",
        sized("size"),
        "with_logins",
        shown("reason"),
    )
    list_display_links = ("created_at",)
    list_filter = ("phase", PersonFilter, ClassFilter, SnapshotOlderFilter, LargerFilter, "with_logins")
    list_select_related = ("owner", "agent_class")
    search_fields = ("state_name", "owner__username", "key")
