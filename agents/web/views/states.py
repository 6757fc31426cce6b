"""My states: what my agents keep, one of them with its snapshots, and their purge."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from agents.models import AgentState
from agents.operations import purging, snapshots, states
from agents.operations.errors import Conflict, OperationError
from agents.operations.permissions import Action
from agents.web.auth import signed_in
from agents.web.http import Request
from agents.web.shown import ShownOperation

MOST_ROWS = 200


@require_safe
@signed_in
def listing(request: Request) -> HttpResponse:
    mine = states.states_for(request.user)
    context = {"here": "states", "states": mine[:MOST_ROWS], "left_out": max(0, mine.count() - MOST_ROWS)}
    return render(request, "agents/states.html", context)


@require_safe
@signed_in
def state(request: Request, key: str) -> HttpResponse:
    found = states.get_state(request.user, key)
    context: dict[str, Any] = {
        "here": "states",
        "state": found,
        "agent": states.user_of(found),
        "snapshots": snapshots.snapshots_for(request.user).filter(state_key=found.key)[:MOST_ROWS],
    }
    return render(request, "agents/state.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def purge(request: Request) -> HttpResponse:
    """What will go, named by `state` (several times) in the address; then a typed word where much is lost."""
    asked = request.POST if request.method == "POST" else request.GET
    keys, kept_keys = asked.getlist("state"), asked.getlist("snapshot")
    if not keys and not kept_keys:
        return redirect("states")
    if len(keys) + len(kept_keys) > purging.MOST_AT_ONCE:
        raise Conflict(f"At most {purging.MOST_AT_ONCE} can be purged at once.", remedy="Choose fewer.")
    chosen = states.get_states(request.user, keys, action=Action.PURGE_STATE)
    kept = snapshots.get_snapshots(request.user, kept_keys, action=Action.PURGE_SNAPSHOT)
    word = _word(chosen, len(chosen) + len(kept))
    context: dict[str, Any] = {
        "here": "states",
        "states": chosen,
        "snapshots": kept,
        "count": len(chosen) + len(kept),
        "typed": word,
        "in_use": [one for one in chosen if getattr(one, "in_use", False)],
        "digest": purging.digest(chosen, kept),
    }
    if request.method != "POST":
        return render(request, "agents/purge.html", context)
    typed = request.POST.get("confirm", "")
    if word and typed.strip() != word:
        return render(request, "agents/purge.html", context | {"is_wrong": True, "wrong": typed}, status=400)
    try:
        made = purging.request_purge(
            request.user,
            states=[one.key for one in chosen],
            snapshots=[one.key for one in kept],
            eject=request.POST.get("eject") == "on",
            shown=request.POST.get("shown", ""),
        )
    except OperationError as refusal:
        return render(request, "agents/purge.html", context | {"refusal": refusal}, status=refusal.status)
    if len(made) == 1:
        return redirect("operation", operation_id=made[0].pk)
    return redirect("purge-batch", key=made[0].request["batch"])


@require_safe
@signed_in
def batch(request: Request, key: str) -> HttpResponse:
    """What became of each item of one purge."""
    rows = [ShownOperation(one) for one in purging.batch_of(request.user, key)]
    context = {"here": "states", "operations": rows, "batch": key, "is_open": any(one.row.is_open for one in rows)}
    return render(request, "agents/purge_batch.html", context)


def _word(chosen: list[AgentState], count: int) -> str:
    """What has to be typed: the number of several, the name of one with logins inside."""
    if count > 1:
        return str(count)
    return chosen[0].name if chosen and chosen[0].has_logins else ""
