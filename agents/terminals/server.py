"""The windows' socket: one connection per open terminal page, frames both ways."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final, cast

from agents.terminals import protocol
from agents.terminals.feed import Feed
from agents.terminals.hub import Hub
from agents.terminals.protocol import Frame, FrameDecoder, ProtocolError
from agents.terminals.pump import Pump
from agents.terminals.viewer import CREDIT, Viewer

log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 1024
MOST_OF_ONE: Final = 64  # windows of one person: nobody takes the places of all others
ATTACH_WITHIN: Final = 10.0  # seconds
MOST_UNSENT: Final = CREDIT + 1024 * 1024  # frames are bounded by credit; controls of a dead peer are not


class ViewerConnection(asyncio.Protocol):
    """One window: the first frame says which agent, everything after goes to its pump."""

    def __init__(self, *, hub: Hub, open_connections: set[ViewerConnection]) -> None:
        self._hub = hub
        self._open = open_connections
        self._decoder = FrameDecoder()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._viewer: Viewer | None = None
        self._pump: Pump | None = None

    @property
    def viewer_name(self) -> str:
        """Who looks, once that is known."""
        return "" if self._viewer is None else self._viewer.name

    # ── What a Viewer needs of it ────────────────────────────────────────────────────────────────

    def send(self, frame: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self.unsent() > MOST_UNSENT:
            self._transport.abort()
            return
        self._transport.write(frame)

    def unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # ── What asyncio calls ───────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._open) >= MOST_CONNECTIONS:
            self._transport.abort()
            return
        self._open.add(self)
        self._deadline = asyncio.get_running_loop().call_later(ATTACH_WITHIN, self.close)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                if self._transport is None or self._transport.is_closing():
                    return
                self._obey(frame)
        except ProtocolError as error:
            log.warning("a window is closed: %s", error)
            self.send(protocol.control_frame({"refused": str(error)}))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._pump is not None and self._viewer is not None:
            self._hub.detach(self._pump, self._viewer)
        self._pump = self._viewer = self._transport = None

    # ── Frames ───────────────────────────────────────────────────────────────────────────────────

    def _obey(self, frame: Frame) -> None:
        if self._viewer is None:
            self._attach(frame)
            return
        if self._pump is None:
            return
        if isinstance(frame, bytes):
            self._pump.type(self._viewer, frame)
            return
        match frame:
            case {"ack": count} if len(frame) == 1:
                self._pump.acknowledge(self._viewer, protocol.count_of(count, most=CREDIT))
            case {"resize": [rows, columns]} if len(frame) == 1:
                self._pump.resize(self._viewer, protocol.size_of(rows, columns))
            case _:
                raise ProtocolError("not a control of a window")

    def _attach(self, frame: Frame) -> None:
        if isinstance(frame, bytes):
            raise ProtocolError("bytes before attach")
        wanted = protocol.attach_of(frame)
        if sum(one.viewer_name == wanted.viewer for one in self._open) >= MOST_OF_ONE:
            raise ProtocolError(f"{MOST_OF_ONE} windows of yours are open already")
        if self._deadline is not None:
            self._deadline.cancel()
        self._viewer = Viewer(name=wanted.viewer, size=wanted.size, connection=self)
        self._pump = self._hub.attach(wanted.agent, self._viewer)
        if self._pump is None:
            self.close()


async def serve(*, feed_listener: socket.socket, viewer_listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve both sockets until `stop` is set. Both listen already."""
    feed = Feed(feed_listener)
    windows: set[ViewerConnection] = set()
    viewer_listener.setblocking(False)
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: ViewerConnection(hub=feed.hub, open_connections=windows), sock=viewer_listener
    )
    log.info("terminals ready")
    try:
        await stop.wait()
    finally:
        server.close()
        feed.close()
        for window in list(windows):
            window.close()
