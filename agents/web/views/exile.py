"""Ejecting many agents at once: a page that says whom it means, and the request itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from agents.models import Agent
from agents.operations.exile import Scope, exilable, request_exile
from agents.web.auth import signed_in
from agents.web.http import Request

MOST_SHOWN = 200


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def own(request: Request) -> HttpResponse:
    return _answer(request, Scope.OWN, person=request.user.get_username(), typed="")


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def person(request: Request, name: str) -> HttpResponse:
    return _answer(request, Scope.PERSON, person=name, typed=name)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def everyone(request: Request) -> HttpResponse:
    return _answer(request, Scope.EVERYONE, person="", typed="everyone")


def _answer(request: Request, scope: Scope, *, person: str, typed: str) -> HttpResponse:
    """`typed` has to be typed to confirm, unless it is empty."""
    agents = exilable(request.user, scope=scope, person=person)
    said = request.POST.get("confirm", "").strip()
    wrong = request.method == "POST" and said != typed
    if request.method == "POST" and not wrong:
        return redirect("operation", operation_id=request_exile(request.user, scope=scope, person=person).pk)
    count = agents.count()
    context = {
        "here": "agents" if scope == Scope.OWN else "exile",
        "scope": str(scope),
        "person": person,
        "typed": typed,
        "wrong": said if wrong else "",
        "is_wrong": wrong,
        "agents": agents[:MOST_SHOWN],
        "count": count,
        "left_out": max(0, count - MOST_SHOWN),
        "people": _people(agents) if scope == Scope.EVERYONE else [],
    }
    return render(request, "agents/exile.html", context, status=422 if wrong else 200)


def _people(agents: Iterable[Agent]) -> list[tuple[str, int]]:
    """Who has how many."""
    return sorted(Counter(agent.owner.get_username() for agent in agents).items())
