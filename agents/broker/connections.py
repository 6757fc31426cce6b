"""A client of the broker, and its request while a worker has it."""

from __future__ import annotations

import dataclasses
import os
import socket

from agents.broker import wire
from agents.broker.protocol import Request
from agents.broker.workers import Worker


@dataclasses.dataclass(kw_only=True, eq=False)
class Connection:
    """One client: first its request comes in, then a worker has it, then the reply goes out."""

    sock: socket.socket
    uid: int
    came: float
    until: float
    incoming: bytearray = dataclasses.field(default_factory=bytearray)
    outgoing: bytes = b""
    worker: Worker | None = None
    descriptors: list[int] = dataclasses.field(default_factory=list)

    def complete(self) -> bool:
        """Read on; whether the whole request is there. Raises WireError."""
        piece = wire.piece_with_descriptors(self.sock, wire.HEADER.size + wire.MOST_REQUEST, self.descriptors)
        if not piece:
            raise wire.WireError("closed before its request was complete")
        if len(self.descriptors) > 1:
            raise wire.WireError("more than one descriptor came along")
        self.incoming += piece
        if len(self.incoming) < wire.HEADER.size:
            return False
        try:
            length = wire.body_length(bytes(self.incoming[: wire.HEADER.size]), most=wire.MOST_REQUEST)
        except wire.WireError:
            return True  # answered when it is decoded
        return len(self.incoming) - wire.HEADER.size >= length

    def drop_descriptors(self) -> None:
        while self.descriptors:
            os.close(self.descriptors.pop())


@dataclasses.dataclass(kw_only=True, eq=False)
class Job:
    """A request that a worker has. `connection` is whom to answer: nobody any more once that is done."""

    worker: Worker
    connection: Connection | None
    request: Request
