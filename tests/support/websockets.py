"""A browser at the terminal's websocket: a session, a handshake, and what comes over it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.testing import WebsocketCommunicator
from django.test import Client

from agents.models import Agent, User
from jackin_web.asgi import application

HOST = b"localhost:8000"
ORIGIN = b"http://localhost:8000"
PATIENCE = 10


class Person:
    """Somebody at a browser, with a session."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.client = Client()
        self.client.force_login(user, backend="agents.operations.accounts.OneTimeAwareBackend")

    @property
    def cookie(self) -> bytes:
        return "; ".join(f"{key}={one.value}" for key, one in self.client.cookies.items()).encode()


def websocket(
    agent: Agent,
    *,
    cookie: bytes | None,
    origin: bytes | None = ORIGIN,
    host: bytes = HOST,
    extra: tuple[tuple[bytes, bytes], ...] = (),
    path: str = "",
) -> WebsocketCommunicator:
    headers = [(b"host", host), *extra]
    if origin is not None:
        headers.append((b"origin", origin))
    if cookie is not None:
        headers.append((b"cookie", cookie))
    address = f"{path or f'/ws/agents/{agent.key}/terminal'}?rows=30&columns=90"
    return WebsocketCommunicator(application, address, headers=headers)


@asynccontextmanager
async def opened(agent: Agent, person: Person, **options: Any) -> AsyncIterator[WebsocketCommunicator]:
    connection = websocket(agent, cookie=person.cookie, **options)
    accepted, code = await connection.connect(timeout=PATIENCE)
    assert accepted, code
    yield connection
    await connection.disconnect()


async def control(connection: WebsocketCommunicator, kind: str) -> dict[str, Any]:
    """The next control of that kind; bytes and other controls on the way are passed over."""
    while True:
        message = await connection.receive_output(timeout=PATIENCE)
        assert message["type"] == "websocket.send", message
        if message.get("text") and (found := json.loads(message["text"]))["type"] == kind:
            return dict(found)


async def output(connection: WebsocketCommunicator, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        message = await connection.receive_output(timeout=PATIENCE)
        seen += message.get("bytes") or b""
    return seen


async def closed(connection: WebsocketCommunicator) -> int:
    while (message := await connection.receive_output(timeout=PATIENCE))["type"] != "websocket.close":
        pass
    return int(message["code"])


async def refused(connection: WebsocketCommunicator) -> None:
    """The first answer is a close: the browser's handshake fails."""
    accepted, _ = await connection.connect(timeout=PATIENCE)
    assert not accepted
    await connection.disconnect()
