"""What holds for every page: a one-time password is changed first, errors become pages, nothing private is cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.cache import add_never_cache_headers, patch_vary_headers

from agents.operations.errors import OperationError
from agents.web.http import go, problem

Answer = Callable[[HttpRequest], HttpResponse]

OPEN_TO_ONE_TIME: Final = frozenset({"password", "logout", "login", "invitation"})


class MustChangePasswordMiddleware:
    """Who came in with a one-time password sees one page only, until it is changed."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: object, args: object, kwargs: object) -> HttpResponse | None:
        user = request.user
        if not user.is_authenticated or not user.must_change_password:
            return None
        match = request.resolver_match
        if match is not None and match.view_name in OPEN_TO_ONE_TIME:
            return None
        return go(request, reverse("password"))


class OperationErrorMiddleware:
    """The one place where an operation's refusal becomes an answer."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return problem(request, exception) if isinstance(exception, OperationError) else None


class PrivatePagesMiddleware:
    """No page is kept by the browser or a proxy: another person may sit there next, and parts differ from pages."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        add_never_cache_headers(response)
        patch_vary_headers(response, ["HX-Request", "Cookie"])
        return response
