"""The list of one's agents, with what is under way above it."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from agents.models import OPEN_STATES
from agents.operations import selectors
from agents.web import rows
from agents.web.auth import signed_in
from agents.web.http import Request, page_or_part
from agents.web.shown import shown_operations


@require_safe
@signed_in
def dashboard(request: Request) -> HttpResponse:
    show = request.GET.get("show", "all")
    show = show if show in rows.SHOW else "all"
    agents = selectors.agents_for(request.user)
    chosen = rows.chosen(agents, show=show)
    filters = rows.filters(agents, show=show)
    running = (
        selectors.operations_for(request.user)
        .filter(state__in=OPEN_STATES)
        .select_related("agent__owner")
        .prefetch_related("steps")
    )
    context = {
        "here": "agents",
        "has_agents": filters[0].count > 0,
        "account": selectors.host_account_of(request.user),
        "running": shown_operations(running[: rows.MOST_ROWS]),
        "filters": filters,
        "rows": rows.rows(chosen[: rows.MOST_ROWS]),
        "left_out": max(0, sum(f.count for f in filters if f.current) - rows.MOST_ROWS),
        "nothing": rows.nothing(show),
    }
    return page_or_part(request, "agents/dashboard.html", "agents/partials/_dashboard.html", context)
