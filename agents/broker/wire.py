"""One JSON object each way over a unix stream socket: a 4-byte big-endian length, then UTF-8."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MOST_REQUEST = 64 * 1024
MOST_REPLY = 512 * 1024
HEADER = struct.Struct(">I")

Message = dict[str, Any]


class WireError(ConnectionError):
    """The other side closed early, sent too much, or sent something that is no JSON object."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Message:
    found: Message = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} appears twice")
        found[key] = value
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def encode(message: Mapping[str, Any], *, most: int = MOST_REPLY) -> bytes:
    """The frame of `message`. Raises WireError if it is longer than `most` bytes or holds what JSON cannot say."""
    try:
        body = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"this message cannot be sent: {error}") from error
    if len(body) > most:
        raise WireError(f"the message has {len(body)} bytes; at most {most} are allowed")
    return HEADER.pack(len(body)) + body


def decode(body: bytes) -> Message:
    """The object in `body` (without the length). Raises WireError for anything but one strict JSON object."""
    try:
        message = json.loads(body.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the message is no JSON: {error}") from error
    if not isinstance(message, dict):
        raise WireError("the message is no JSON object")
    return message


def body_length(header: bytes, *, most: int) -> int:
    """Length of the body that `header` announces. Raises WireError if it is over `most`."""
    (length,) = HEADER.unpack(header)
    if length > most:
        raise WireError(f"the message has {length} bytes; at most {most} are allowed")
    return int(length)


def send(sock: socket.socket, message: Mapping[str, Any], *, most: int = MOST_REPLY) -> None:
    """Send one message; blocks as the socket's timeout says."""
    sock.sendall(encode(message, most=most))


def receive(sock: socket.socket, *, most: int = MOST_REPLY) -> Message:
    """Read one message; blocks as the socket's timeout says (for each piece). Raises WireError."""
    length = body_length(_exactly(sock, HEADER.size), most=most)
    return decode(_exactly(sock, length))


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(min(count - len(data), 65536))
        if not piece:
            raise WireError("the other side closed the connection before its message was complete")
        data += piece
    return bytes(data)


def piece_with_descriptors(sock: socket.socket, most: int, into: list[int]) -> bytes:
    """What has arrived, at most `most` bytes; descriptors that came along are added to `into` (close-on-exec)."""
    piece, found, _, _ = socket.recv_fds(sock, most, 4)
    for fd in found:
        os.set_inheritable(fd, False)
    into += found
    return piece


def call(
    path: str | os.PathLike[str],
    request: Mapping[str, Any],
    *,
    timeout: float,
    most_request: int = MOST_REQUEST,
    descriptors: Sequence[int] = (),
) -> Message:
    """Connect to the socket at `path`, send `request`, return the reply. The whole call ends within `timeout` s.

    Raises OSError (of which TimeoutError and WireError are kinds) when there is no complete reply.
    """
    frame = encode(request, most=most_request)
    until = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        _connect(sock, path, timeout)
        # Who is refused at the door is answered before it has spoken; the answer is there although the door is shut.
        with _deadline(sock, until), contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sent = socket.send_fds(sock, [frame], list(descriptors)) if descriptors else 0
            sock.sendall(frame[sent:])
        data = bytearray()
        wanted = HEADER.size
        while len(data) < wanted:
            with _deadline(sock, until):
                piece = sock.recv(65536)
            if not piece:
                raise WireError("the other side closed the connection without a complete reply")
            data += piece
            if len(data) >= HEADER.size:
                wanted = HEADER.size + body_length(bytes(data[: HEADER.size]), most=MOST_REPLY)
        return decode(bytes(data[HEADER.size : wanted]))


def _connect(sock: socket.socket, path: str | os.PathLike[str], seconds: float) -> None:
    """Wait for a place in a full queue. A socket with Python's own timeout would not: it fails at once (EAGAIN)."""
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    try:
        sock.connect(os.fspath(path))
    except BlockingIOError:
        raise TimeoutError("too many others wait to be answered") from None


@contextlib.contextmanager
def _deadline(sock: socket.socket, until: float) -> Iterator[None]:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no complete reply in time")
    sock.settimeout(left)
    yield
