"""What keeps other origins out of every page: headers, the browser's word for where a request comes from, cookies.

Another port of this host is another origin, but the same *site*: SameSite does not keep its pages out, and cookies go
to it and come from it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.http.cookie import SimpleCookie
from django.middleware.csrf import CsrfViewMiddleware
from django.template.loader import render_to_string

from agents.models import User
from agents.operations import audit
from agents.web import origin, peer

Answer = Callable[[HttpRequest], HttpResponse]

DEEPEST: Final = 8  # parts of a path that planted cookies are looked for at
LONG_AGO: Final = "Thu, 01 Jan 1970 00:00:00 GMT"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
UNUSED: Final = ("camera", "display-capture", "geolocation", "hid", "microphone", "midi", "payment", "serial", "usb")
HEADERS: Final = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{name}=()" for name in UNUSED),
}
TWO_COOKIES: Final = (
    "Your browser sent two cookies of the same name, and only one of them is ours: another program on this host, on "
    "another port, has set one. Nothing was done. Those that can be removed were removed."
)
FOREIGN: Final = (
    "The login that your browser sent was made from another account of this machine, so it does not count here: "
    "another program on this host has set the cookie, or has taken yours. It was removed from this browser."
)


def sent_headers(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """The headers that are about the origin, as ASGI has them."""
    values = [("host", request.get_host())]
    values += [
        (name, request.headers[name]) for name in ("origin", "sec-fetch-site", "cookie") if name in request.headers
    ]
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in values]


class HeadersMiddleware:
    """No other origin embeds or loads anything of ours, whatever the answer."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


class SameOriginMiddleware(CsrfViewMiddleware):
    """Django's token, and before it the origin: what changes something has to come from a page of ours.

    A page of another port can set a token's cookie and send the same token in its form; it cannot lie about its
    origin. Without an Origin the Referer has to say it; a request that says neither is refused.
    """

    def process_view(
        self, request: HttpRequest, callback: Any, callback_args: Any, callback_kwargs: Any
    ) -> HttpResponseForbidden | None:
        # The flag is of Django's test client; `csrf_exempt` lifts the token only, not this.
        if request.method not in SAFE and not getattr(request, "_dont_enforce_csrf_checks", False):
            problem = _foreign(request)
            if problem:
                return self._reject(request, problem)  # type: ignore[no-any-return, attr-defined]
        return super().process_view(request, callback, callback_args, callback_kwargs)


def _foreign(request: HttpRequest) -> str:
    headers = sent_headers(request)
    if not origin.fetched_here(headers):
        return "the browser says that another origin's page sends it"
    if "Origin" not in request.headers:
        headers.append((b"origin", origin.referred_from(request.headers.get("Referer", ""))))
    return "" if origin.same_origin(headers, scheme=request.scheme or "") else "its origin is not ours"


class OneCookieMiddleware:
    """Two cookies of one name: the browser does not say which is ours, so none counts."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        headers = sent_headers(request)
        names = (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME)
        twice = [name for name in names if origin.times_sent(headers, name) > 1]
        if not twice:
            return self.get_response(request)
        response = _problem("Two cookies of one name", TWO_COOKIES, status=400)
        for name in twice:
            _remove_planted(request, response, name)
        return response


def _remove_planted(request: HttpRequest, response: HttpResponse, name: str) -> None:
    """Ours has the path /; one with a narrower path that the browser sends here has one of these.

    Nothing by Domain: where the host is an address, browsers take that for the cookie without one, which is ours.
    """
    parts = request.path.split("/")[1 : DEEPEST + 1]
    paths = [f"/{'/'.join(parts[:count])}" for count in range(1, len(parts) + 1)]
    narrower = [form for path in paths if path != "/" for form in (path, f"{path}/")]
    for path in narrower:
        jar = SimpleCookie({name: ""})
        jar[name].update({"path": path, "max-age": "0", "expires": LONG_AGO})
        dict.__setitem__(response.cookies, f"{name} {path}", jar[name])  # one name, several cookies


class OwnSessionMiddleware:
    """A session that was opened from another account of this machine is none: stolen, or planted."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        bound = request.session.get(peer.BOUND)
        now = peer.of_request(request) if bound is not None else ""
        if peer.fits(bound, now):
            return self.get_response(request)
        owner = get_user(request)
        actor = owner if isinstance(owner, User) else "anonymous"
        audit.record_refusal("person.session", actor=actor, summary=f"used from {now}, opened by {bound}")
        request.session = import_module(settings.SESSION_ENGINE).SessionStore()  # the row is its owner's: it stays
        return _problem("Not your login", FOREIGN, status=403)


def _problem(title: str, message: str, *, status: int) -> HttpResponse:
    context = {"title": title, "status": status, "message": message, "remedy": "Load the page again, or log in again."}
    return HttpResponse(render_to_string("agents/problem.html", context), status=status)
