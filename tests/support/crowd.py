"""Many requests to one unix socket at the same moment: each on a connection of its own, with its time."""

from __future__ import annotations

import dataclasses
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from agents.broker import wire


@dataclasses.dataclass(kw_only=True)
class Asked:
    """One request; `reply` stays None if none came. `seconds` is from before its connect to its reply."""

    request: Mapping[str, Any]
    sock: socket.socket
    began: float
    reply: dict[str, Any] | None = None
    seconds: float = 0.0

    @property
    def code(self) -> str:
        """The refusal's code, "ok", or "lost" for a connection that ended without an answer."""
        return "lost" if self.reply is None else str(self.reply.get("code", "ok"))


def send_all(path: str, requests: Sequence[Mapping[str, Any]]) -> list[Asked]:
    """Connect and send all of them, without waiting for any reply."""
    found = []
    for one in requests:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        asked = Asked(request=one, sock=sock, began=time.monotonic())
        sock.settimeout(None)
        sock.connect(path)
        wire.send(sock, one)
        found.append(asked)
    return found


def replies(asked: Sequence[Asked], *, seconds: float = 20) -> None:
    """Take the replies as they come; the sockets are closed."""
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for one in asked:
            selector.register(one.sock, selectors.EVENT_READ, one)
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(until - time.monotonic()):
                one = key.data
                one.seconds = time.monotonic() - one.began
                try:
                    one.reply = wire.receive(one.sock)
                except OSError:
                    one.reply = None
                selector.unregister(one.sock)
        for one in asked:
            one.sock.close()
