"""Who mounted what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.template.defaultfilters import date
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from agents.admin.base import ReadOnlyAdmin, shown
from agents.admin.filters import ActiveFilter, GrantedClassFilter, GrantedToFilter
from agents.models import MountGrant
from agents.operations import ledger, permissions
from agents.operations.permissions import Action


@admin.register(MountGrant)
class MountGrantAdmin(ReadOnlyAdmin):
    list_display = (
        "granted",
        shown("granted_by__username", title="person"),
        shown("agent__agent_class__slug", title="class"),
        shown("agent__name", title="agent"),
        shown("source_asked", title="path asked"),
        shown("real_path"),
        shown("destination"),
        "mode",
        "active_now",
    )
    list_display_links = ("granted",)
    list_filter = (ActiveFilter, "mode", GrantedClassFilter, GrantedToFilter)
    list_select_related = ("granted_by", "agent__agent_class")
    search_fields = ("real_path",)  # that there is a search; what it does is in the ledger
    search_help_text = "A person, agent or class, then a path: alice /srv/data finds what is on, above and below it."
    date_hierarchy = "granted_at"
    ordering = ("-granted_at", "-pk")
    change_list_template = "admin/agents/mountgrant/change_list.html"

    @admin.display(description="when", ordering="granted_at")
    def granted(self, row: MountGrant) -> str:
        return date(timezone.localtime(row.granted_at), "Y-m-d H:i")

    @admin.display(description="active now", boolean=True, ordering="agent__state")
    def active_now(self, row: MountGrant) -> bool:
        return row.agent.is_live

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[MountGrant], search_term: str
    ) -> tuple[QuerySet[MountGrant], bool]:
        return ledger.searched(queryset, search_term), False

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export)
        return [path("export/", export, name="agents_mountgrant_export"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        may_export = permissions.can(request.user, Action.EXPORT_LEDGER)
        return super().changelist_view(request, {**(extra_context or {}), "may_export": may_export})

    @method_decorator(require_POST)
    def export(self, request: HttpRequest) -> HttpResponseBase:
        """The list as it is filtered, as CSV. A POST: it is written down."""
        try:
            found = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(reverse("admin:agents_mountgrant_changelist"))
        pieces = ledger.export(request.user, grants=found, asked=request.GET.urlencode())
        # under ASGI a plain iterator would be read to its end before the first byte is sent
        content = _awaited(pieces) if isinstance(request, ASGIRequest) else pieces
        answer = StreamingHttpResponse(content, content_type="text/csv; charset=utf-8")
        name = f"mount-grants-{timezone.localtime():%Y-%m-%d}.csv"
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer


async def _awaited(pieces: Iterator[str]) -> AsyncIterator[str]:
    step = sync_to_async(lambda: next(pieces, None))
    while (piece := await step()) is not None:
        yield piece
        await asyncio.sleep(0)
