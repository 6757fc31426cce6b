"""Answers: a page or its part, a redirect that htmx understands, an operation's refusal as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from agents.models import User
from agents.operations.errors import OperationError

TITLES: Final[Mapping[int, str]] = {
    403: "Not allowed",
    404: "Nothing here",
    409: "Not now",
    422: "That cannot be done as it stands",
    503: "A part of the service does not answer",
}


class Request(HttpRequest):
    """A request behind the login: `signed_in` lets nobody else through."""

    user: User
    htmx: HtmxDetails


def is_part(request: HttpRequest) -> bool:
    """Whether htmx asks, and wants a part of the page only."""
    htmx: HtmxDetails = request.htmx  # type: ignore[attr-defined]
    return bool(htmx) and not htmx.history_restore_request


def page_or_part(request: HttpRequest, page: str, part: str, context: Mapping[str, Any]) -> HttpResponse:
    """One address, two answers: the whole page, or the part of it that htmx asked for."""
    return render(request, part if is_part(request) else page, dict(context))


def go(request: HttpRequest, url: str) -> HttpResponse:
    """A redirect of the whole page, whoever asks: htmx would put the target into a part of the page."""
    return HttpResponseClientRedirect(url) if is_part(request) else HttpResponseRedirect(url)


def problem(request: HttpRequest, error: OperationError) -> HttpResponse:
    """An expected failure as a page with its status."""
    title = TITLES.get(error.status, "That did not work")
    context = {"title": title, "status": error.status, "message": error.message, "remedy": error.remedy}
    return render(request, "agents/problem.html", context, status=error.status)
