"""What every websocket passes before its consumer: a known host, a known address."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Close before accepting: the browser sees a 403."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})


class HostCheck:
    """Django looks at the Host header of pages only; the same list holds for websockets here."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        known = len(hosts) == 1 and validate_host(split_domain_port(hosts[0])[0], settings.ALLOWED_HOSTS)
        await (self.application if known else refuse)(scope, receive, send)
