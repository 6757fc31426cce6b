"""Addresses of the websockets."""

from __future__ import annotations

from typing import Any, Final

from django.urls import re_path

from agents.web.terminal.consumer import TerminalConsumer

websocket_urlpatterns: Final[list[Any]] = [
    re_path(r"^ws/agents/(?P<key>[0-9a-f]{32})/terminal\Z", TerminalConsumer.as_asgi()),
]
