"""My snapshots: the list, taking one of a state, putting one back."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from agents.models import StateSnapshot
from agents.operations import snapshots
from agents.operations.errors import OperationError
from agents.operations.permissions import Action
from agents.web.auth import signed_in
from agents.web.http import Request

MOST_ROWS = 200


@require_safe
@signed_in
def listing(request: Request) -> HttpResponse:
    mine = snapshots.snapshots_for(request.user)
    context = {"here": "snapshots", "snapshots": mine[:MOST_ROWS], "left_out": max(0, mine.count() - MOST_ROWS)}
    return render(request, "agents/snapshots.html", context)


@require_POST
@signed_in
def take(request: Request, key: str) -> HttpResponse:
    with_logins = request.POST.get("with_logins") == "on"
    operation = snapshots.request_snapshot(request.user, key, with_logins=with_logins)
    return redirect("operation", operation_id=operation.pk)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def restore(request: Request, key: str) -> HttpResponse:
    found = snapshots.get_snapshot(request.user, key, action=Action.RESTORE_SNAPSHOT)
    if request.method == "POST":
        into = found.state_key if request.POST.get("into") == "same" else ""
        keep = request.POST.get("keep_logins") == "on"
        operation = snapshots.request_restore(request.user, key, into=into, keep_logins=keep)
        return redirect("operation", operation_id=operation.pk)
    return render(request, "agents/restore.html", {"here": "snapshots", "snapshot": found, **_choices(found)})


def _choices(snapshot: StateSnapshot) -> dict[str, Any]:
    """Whether it can take the place of the state that it was made of, or why not."""
    state = snapshot.state
    if state is None or state.owner_id != snapshot.owner_id or state.key != snapshot.state_key:
        return {"state": None, "why_not": "The state that it was made of has been purged."}
    try:
        snapshots.check_replaceable(state, snapshot)
        snapshots.check_quiet(state)
    except OperationError as error:
        return {"state": None, "why_not": error.message}
    return {"state": state, "why_not": ""}
