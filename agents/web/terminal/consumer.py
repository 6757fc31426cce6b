"""The websocket of one terminal window: bytes to and from the terminals process, nothing in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from django.conf import settings

from agents.operations.errors import NotFound
from agents.terminals import protocol as frames
from agents.terminals.protocol import FrameDecoder
from agents.web import origin
from agents.web.terminal import access, protocol

log = logging.getLogger(__name__)

READ: Final = 256 * 1024
CONNECT_WITHIN: Final = 5.0  # seconds
CHECK_EVERY: Final = 3.0  # seconds between two looks whether the session still lives
MOST_UNSENT: Final = 2 * 1024 * 1024  # input that terminals did not take; our page stops long before

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class TerminalConsumer(AsyncConsumer):  # type: ignore[misc] # channels has no types
    """Refuses before it accepts; `receive` returns at once, output has a task of its own."""

    check_every = CHECK_EVERY

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._writer: asyncio.StreamWriter | None = None
        self._closed = False
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stop()

    async def dispatch(self, message: Mapping[str, Any]) -> None:
        """Without Channels' database clean-up before each message: nothing here keeps a connection."""
        if message["type"] == "websocket.receive":
            self._receive(message)
        else:
            await super().dispatch(message)

    # ── Opening ──────────────────────────────────────────────────────────────────────────────────

    async def websocket_connect(self, message: Mapping[str, Any]) -> None:
        key = self.scope["url_route"]["kwargs"]["key"]
        if not self._asked_by_our_page():
            log.warning("agent %s: terminal refused, the page is of another origin", key)
            await self._close(protocol.REFUSED)
            return
        try:
            found = await access.open_terminal(self.scope, key)
            reader = await self._connect(found.key, viewer=found.viewer)
        except access.NotLoggedIn:
            await self._close(protocol.LOGGED_OUT)
        except NotFound:
            await self._close(protocol.NOT_YOURS)
        except (OSError, TimeoutError) as error:
            log.warning("agent %s: the terminals process does not answer: %s", key, error)
            await self._close(protocol.UNAVAILABLE)
        else:
            await self.send({"type": "websocket.accept"})
            self._start(self._show(reader))
            self._start(self._watch_session(found.key))

    def _asked_by_our_page(self) -> bool:
        headers = self.scope["headers"]
        return (
            origin.same_origin(headers, scheme=self._scheme())
            and origin.fetched_here(headers)
            and origin.times_sent(headers, settings.SESSION_COOKIE_NAME) < 2
        )

    def _scheme(self) -> str:
        """daphne leaves the scheme out; with TLS there is only wss."""
        return "wss" if settings.JACKIN_TLS else str(self.scope.get("scheme", "ws"))

    async def _connect(self, key: str, *, viewer: str) -> asyncio.StreamReader:
        size = protocol.size_in(self.scope.get("query_string", b""))
        async with asyncio.timeout(CONNECT_WITHIN):
            reader, self._writer = await asyncio.open_unix_connection(settings.JACKIN_TERMINALS_SOCKET, limit=READ)
        attach = {"attach": key, "viewer": viewer, "rows": size.rows, "columns": size.columns}
        self._writer.write(frames.control_frame(attach))
        return reader

    # ── Input: the browser's messages ────────────────────────────────────────────────────────────

    def _receive(self, message: Mapping[str, Any]) -> None:
        if self._writer is None or self._closed:
            return
        try:
            frame = protocol.frame_of(message)
            if self._writer.transport.get_write_buffer_size() > MOST_UNSENT:
                raise protocol.BadMessage("more input than the terminal takes")
        except protocol.BadMessage as error:
            log.warning("a terminal's websocket is closed: %s", error)
            self._start(self._close(protocol.REFUSED))
        else:
            self._writer.write(frame)

    # ── Output: frames of terminals ──────────────────────────────────────────────────────────────

    async def _show(self, reader: asyncio.StreamReader) -> None:
        """Pass on what terminals sends; its credit bounds what waits in the server, which never does."""
        code = protocol.UNAVAILABLE
        decoder = FrameDecoder()
        try:
            while data := await reader.read(READ):
                for frame in decoder.feed(data):
                    if isinstance(frame, bytes):
                        await self.send({"type": "websocket.send", "bytes": frame})
                    elif (control := protocol.message_of(frame)) is not None:
                        await self.send({"type": "websocket.send", "text": json.dumps(control)})
                        code = {"ended": protocol.ENDED, "refused": protocol.REFUSED}.get(control["type"], code)
        except (OSError, frames.ProtocolError) as error:
            log.warning("the terminals process is lost: %s", error)
        await self._close(code)

    async def _watch_session(self, key: str) -> None:
        """A window does not outlive its login."""
        while True:
            await asyncio.sleep(self.check_every)
            if not await access.still_open(self.scope, key):
                await self._close(protocol.LOGGED_OUT)
                return

    # ── Closing ──────────────────────────────────────────────────────────────────────────────────

    async def websocket_disconnect(self, message: Mapping[str, Any]) -> None:
        self._closed = True
        await self._stop()
        raise StopConsumer

    async def _close(self, code: int) -> None:
        if not self._closed:
            self._closed = True
            await self.send({"type": "websocket.close", "code": code})

    def _start(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _stop(self) -> None:
        """Cancel the tasks and wait for their end, then let go of the socket."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("a terminal's task failed", exc_info=result)
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
