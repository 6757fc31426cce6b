"""One agent: its terminal and details, and its end."""

from __future__ import annotations

from typing import Any

from csp.constants import UNSAFE_INLINE
from csp.decorators import csp_update
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from agents.models import Agent, AgentStatus, OperationKind
from agents.operations import lifecycle, selectors
from agents.web.auth import signed_in
from agents.web.details import asked_mounts, events_of, isolation_words
from agents.web.http import Request, is_part
from agents.web.names import runtime_title
from agents.web.oplog import log_context
from agents.web.shown import ShownOperation, latest_operation

PARTS = {"head": "agents/partials/_agent_head.html", "now": "agents/partials/_agent_now.html"}


# xterm.js sets styles of its elements by script and cannot do without; here only, and scripts stay strict
@csp_update({"style-src": [UNSAFE_INLINE]})  # type: ignore[arg-type] # typed for views without arguments
@require_safe
@signed_in
def agent(request: Request, key: str) -> HttpResponse:
    found = selectors.get_agent(request.user, key)
    if is_part(request):
        return _part(request, found)
    context = _context(found) | _details(request, found)
    if found.state == AgentStatus.STARTING and context["launched_by"]:
        context |= log_context(context["launched_by"])
    return render(request, "agents/agent.html", context)


def _part(request: Request, found: Agent) -> HttpResponse:
    """The head or the middle of the page; a page made in another state is asked to load itself anew."""
    part = PARTS.get(request.GET.get("part", ""), PARTS["head"])
    response = render(request, part, _context(found))
    if request.GET.get("seen", found.state) != found.state:
        response["HX-Refresh"] = "true"
    return response


def _context(found: Agent) -> dict[str, Any]:
    latest = latest_operation(found)
    if latest and found.state == AgentStatus.EJECTING and latest.kind == OperationKind.LAUNCH:
        latest = None  # an exile ejects it: its steps are those of all its agents
    return {
        "here": "agents",
        "agent": found,
        "operation": ShownOperation(latest) if latest else None,
        "launched_by": latest_operation(found, kind=OperationKind.LAUNCH),
        "has_terminal": found.state == AgentStatus.RUNNING,
        "can_eject": found.state in (AgentStatus.STARTING, AgentStatus.RUNNING),
        "grants": list(found.grants.all()),
    }


def _details(request: Request, found: Agent) -> dict[str, Any]:
    account = selectors.host_account_of(request.user)
    return {
        "isolation": isolation_words(found, account=account.account if account else ""),
        "asked": asked_mounts(found),
        "events": events_of(found),
        "runtime": runtime_title(found.runtime),
    }


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def eject(request: Request, key: str) -> HttpResponse:
    if request.method == "POST":
        lifecycle.request_eject(request.user, key)
        return redirect("agent", key=key)
    found = selectors.get_agent(request.user, key)
    return render(request, "agents/eject.html", _context(found))
