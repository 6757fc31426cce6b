"""The way in for any ASGI server: pages and static files over HTTP, terminals over websockets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jackin_web.settings")

from django.core.asgi import get_asgi_application

pages = get_asgi_application()  # before the imports below: it loads the apps that they need

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import re_path  # noqa: E402
from servestatic import ServeStaticASGI  # noqa: E402

from agents.web.routing import websocket_urlpatterns  # noqa: E402
from agents.web.walls import HEADERS  # noqa: E402
from agents.web.websockets import HostCheck, refuse  # noqa: E402

HASHED = r"\.[0-9a-f]{12}\.[^/]+$"  # names that collectstatic made: they never change


def with_static_files(application: Any) -> Any:
    """`application` behind the collected files, where there are any (tests run without)."""
    if not Path(settings.STATIC_ROOT).is_dir():
        return application
    return ServeStaticASGI(
        application,
        root=settings.STATIC_ROOT,
        prefix=settings.STATIC_URL,
        allow_all_origins=False,
        immutable_file_test=HASHED,
        add_headers_function=_strict,
    )


def _strict(headers: Any, path: str, url: str) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    for name, value in HEADERS.items():
        headers[name] = value


_signing_key = settings.SECRET_KEY  # asked for now: Django refuses an empty one, but not before its first use

elsewhere: Any = refuse  # Django's types know views only
websockets = [*websocket_urlpatterns, re_path(r"", elsewhere)]

application = ProtocolTypeRouter(
    {
        "http": HostCheck(with_static_files(pages), otherwise=pages),  # Django itself answers 400
        "websocket": HostCheck(AuthMiddlewareStack(URLRouter(websockets))),
    }
)
