"""Who gets past the login, and what somebody reads who has to wait."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme, urlencode

from agents.operations.login_delay import seconds_left
from agents.web.http import Request, go, is_part

P = ParamSpec("P")
View = Callable[Concatenate[Request, P], HttpResponse]


def signed_in(view: View[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Only for people who logged in; others go to the login page, and come back from there."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if request.user.is_authenticated:
            return view(cast(Request, request), *args, **kwargs)
        return go(request, f"{settings.LOGIN_URL}?{urlencode({'next': _here(request)})}")

    return guarded


def _here(request: HttpRequest) -> str:
    """Where to come back to: the page, not the part of it that asked."""
    if not is_part(request):
        return request.get_full_path()
    current: str | None = request.htmx.current_url_abs_path  # type: ignore[attr-defined]
    return current or "/"


def safe_next(request: HttpRequest) -> str:
    """Where to go after the login: a page of ours, else the first one."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    fine = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if fine else settings.LOGIN_REDIRECT_URL


def locked_out(request: HttpRequest, response: HttpResponse | None, credentials: Mapping[str, Any]) -> HttpResponse:
    """What axes answers with while an account has to wait (AXES_LOCKOUT_CALLABLE)."""
    username = str((credentials or {}).get("username") or request.POST.get("username", ""))
    seconds = max(1, seconds_left(username))
    answer = render(request, "registration/lockout.html", {"wait": wait_words(seconds)}, status=429)
    answer["Retry-After"] = str(seconds)
    return answer


def wait_words(seconds: int) -> str:
    """1 second, 40 seconds, 3 minutes (rounded up)."""
    if seconds < 90:
        return f"{seconds} second{'' if seconds == 1 else 's'}"
    return f"{-(-seconds // 60)} minutes"
