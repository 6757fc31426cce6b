"""One window onto a terminal: how far it has been served, and how much more it may be sent."""

from __future__ import annotations

from typing import Any, Final, Protocol

from agents.terminals import protocol
from agents.terminals.protocol import Size
from agents.terminals.ring import Ring

CREDIT: Final = 512 * 1024  # bytes sent and not yet acknowledged by the screen itself
CHUNK: Final = 64 * 1024
CATCH_UP: Final = 128 * 1024  # what a window that was left behind is shown again
ACKNOWLEDGE_INPUT: Final = 16 * 1024
MOST_INPUT: Final = 512 * 1024  # typed and not yet taken; a window that counts what is taken never gets there


class Connection(Protocol):
    """What a viewer needs of its socket."""

    def send(self, frame: bytes) -> None:
        """Queue a frame."""

    def unsent(self) -> int:
        """Bytes queued here and not yet taken by the other side."""

    def close(self) -> None:
        """Send what is queued, then close."""


class Viewer:
    """`position` is the offset in the ring of the next byte to send."""

    def __init__(self, *, name: str, size: Size, connection: Connection) -> None:
        self.name = name
        self.size = size
        self.position = 0
        self.unacknowledged = 0
        self.absent = False  # shows nothing for so long that nobody waits for it
        self.waiting_input = 0
        self._taken_input = 0
        self._connection = connection

    def tell(self, **control: Any) -> None:
        """Send a control."""
        self._connection.send(protocol.control_frame(control))

    def close(self) -> None:
        self._connection.close()

    def restart(self, ring: Ring, *, most: int | None = None) -> None:
        """Make the window forget what it shows and begin again with the recent output."""
        self.position = ring.replay_start(most)
        self.tell(ready=True, replay=ring.end - self.position)

    def credit(self) -> int:
        """How many bytes it may be sent now."""
        return CREDIT - max(self.unacknowledged, self._connection.unsent())

    def serve(self, ring: Ring) -> bool:
        """Send what is new, as far as the credit goes; returns whether anything left."""
        credit = self.credit()
        if self.position < ring.start:
            if credit < CATCH_UP:
                return False  # left behind: begins again once it can take a whole screen
            self.restart(ring, most=CATCH_UP)
        before = self.position
        while credit > 0 and self.position < ring.end:
            data = ring.read(self.position, min(CHUNK, credit))
            self._connection.send(protocol.bytes_frame(data))
            self.position += len(data)
            self.unacknowledged += len(data)
            credit -= len(data)
        return self.position > before

    def acknowledged(self, count: int) -> None:
        """The screen has shown `count` more bytes."""
        if count > self.unacknowledged:
            raise protocol.ProtocolError("acknowledged more than was sent")
        self.unacknowledged -= count
        self.absent = False

    def typed(self, count: int) -> None:
        """`count` bytes of input wait for the terminal to take them."""
        self.waiting_input += count
        if self.waiting_input > MOST_INPUT:
            raise protocol.ProtocolError("more input than the terminal takes")

    def taken(self, count: int) -> None:
        """The terminal took `count` bytes of this window's input."""
        self.waiting_input -= count
        self._taken_input += count
        if self._taken_input >= ACKNOWLEDGE_INPUT:
            self.tell(typed=self._taken_input)
            self._taken_input = 0
