"""What every request passes first, be it for a page, a static file or a websocket: a known host."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Close before accepting: the browser sees a 403."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})


class HostCheck:
    """Django looks at the Host header of its pages only; the same list holds for websockets and static files here.

    A page of another name that an attacker points at this address (rebinding) is refused by `otherwise`.
    """

    def __init__(self, application: Any, *, otherwise: Any = refuse) -> None:
        self.application = application
        self.otherwise = otherwise

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        known = len(hosts) == 1 and validate_host(split_domain_port(hosts[0])[0], settings.ALLOWED_HOSTS)
        await (self.application if known else self.otherwise)(scope, receive, send)
