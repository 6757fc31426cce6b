"""Operations: the list, one with its steps and log, cancelling one."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from agents.models import AgentStatus, OperationState
from agents.operations import lifecycle, retrying, selectors
from agents.operations.permissions import Action
from agents.web.auth import signed_in
from agents.web.http import Request, go, is_part, page_or_part
from agents.web.oplog import log_context, shown_log
from agents.web.shown import ShownOperation, shown_operations

MOST_ROWS = 100


@require_safe
@signed_in
def operations(request: Request) -> HttpResponse:
    mine = selectors.operations_for(request.user)
    context = {
        "here": "operations",
        "operations": shown_operations(mine.select_related("agent__owner").prefetch_related("steps")[:MOST_ROWS]),
        "left_out": max(0, mine.count() - MOST_ROWS),
    }
    return page_or_part(request, "agents/operations.html", "agents/partials/_operations.html", context)


@require_safe
@signed_in
def operation(request: Request, operation_id: uuid.UUID) -> HttpResponse:
    shown = ShownOperation(selectors.get_operation(request.user, operation_id))
    if is_part(request) and _leads_on(shown):
        return go(request, reverse("agent", args=[shown.row.agent.key]))  # type: ignore[union-attr]
    context: dict[str, Any] = {"here": "operations", "operation": shown}
    if not is_part(request):  # the output is asked for on its own
        context |= log_context(shown.row)
    return page_or_part(request, "agents/operation.html", "agents/partials/_operation.html", context)


@require_safe
@signed_in
def log(request: Request, operation_id: uuid.UUID) -> HttpResponse:
    """The lines that came after the piece `since`; the answer says up to which piece, and whether more may come."""
    found = selectors.get_operation(request.user, operation_id)
    since = request.GET.get("since", "")
    shown = shown_log(found, since=int(since) if re.fullmatch(r"[0-9]{1,18}", since, re.ASCII) else 0)
    response = render(request, "agents/partials/_oplog_lines.html", {"log": shown})
    response["X-Log-Last"] = str(shown.last)
    response["X-Log-Open"] = "1" if found.is_open else "0"
    return response


def _leads_on(shown: ShownOperation) -> bool:
    """Whether who watches this launch wants its terminal now."""
    agent = shown.row.agent
    succeeded = shown.is_launch and shown.row.state == OperationState.SUCCEEDED
    return succeeded and agent is not None and agent.state == AgentStatus.RUNNING


@require_POST
@signed_in
def cancel(request: Request, operation_id: uuid.UUID) -> HttpResponse:
    operation = lifecycle.request_cancel(request.user, operation_id)
    if operation.is_open:
        messages.info(request, "It is being cancelled: what it made is removed first.")
    return redirect("operation", operation_id=operation.pk)


@require_POST
@signed_in
def retry(request: Request, operation_id: uuid.UUID) -> HttpResponse:
    operation = selectors.get_operation(request.user, operation_id, action=Action.RETRY_OPERATION)
    if retrying.can_retry(operation) and retrying.needs_form(operation):
        return redirect(f"{reverse('launch')}?from={operation.pk}")
    again = retrying.request_retry(request.user, operation.pk)
    return redirect("operation", operation_id=again.pk)
