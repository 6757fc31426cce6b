"""A container's terminal as a plain socket: our own hijack of the engine's HTTP connection.

The SDK's own way reads ahead while it parses the response, and loses what it has read (docker-py#3332).
"""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.parse

from agents.engine.errors import EngineError, EngineUnreachable
from agents.engine.sdk import raise_for, unreachable

MOST_HEADER = 16 * 1024
MOST_ERROR = 64 * 1024
TIMEOUT = 30.0
END = b"\r\n\r\n"

# The engine watches for keys that detach, by default ctrl-p ctrl-q, and holds ctrl-p back until the next key.
# A long row of a byte that no UTF-8 text has is never typed.
NO_DETACH = ",".join(["%FF"] * 16)


def attach(socket_path: str | os.PathLike[str], container: str, *, api_version: str) -> socket.socket:
    """The connected stream of the container's TTY. Raises NotFound, EngineUnreachable, EngineError."""
    path = (
        f"/v{api_version}/containers/{urllib.parse.quote(container, safe='')}/attach"
        f"?stream=1&stdin=1&stdout=1&stderr=1&detachKeys={NO_DETACH}"
    )
    return hijack(socket_path, path, what=f"the terminal of container {container[:12]}")


def hijack(socket_path: str | os.PathLike[str], path: str, *, what: str) -> socket.socket:
    """POST `path` and take over the connection; blocking, without a timeout, positioned after the header."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as on_error:
        on_error.callback(sock.close)
        try:
            sock.settimeout(TIMEOUT)
            sock.connect(os.fspath(socket_path))
            sock.sendall(
                f"POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
                "Content-Length: 0\r\n\r\n".encode()
            )
            header = read_header(sock)
            status = parse_status(header)
            if status not in (101, 200):
                raise_for(what, status, _error_text(sock, header))
        except OSError as error:
            raise unreachable(error) from error
        sock.settimeout(None)
        on_error.pop_all()
    return sock


def read_header(sock: socket.socket) -> bytes:
    """The response header up to and with its empty line; not one byte more leaves the socket.

    Looks first (MSG_PEEK) and then takes what belongs to the header, in a few calls even where it comes in pieces.
    """
    header = bytearray()
    while True:
        seen = sock.recv(4096, socket.MSG_PEEK)
        if not seen:
            raise EngineUnreachable("The engine closed the connection in the middle of its answer.")
        overlap = min(len(header), len(END) - 1)
        joined = bytes(header[len(header) - overlap :]) + seen
        at = joined.find(END)
        wanted = len(seen) if at < 0 else at + len(END) - overlap
        header += sock.recv(wanted)
        if header.endswith(END):
            return bytes(header)
        if len(header) > MOST_HEADER:
            raise EngineError(f"The engine's answer has a header of more than {MOST_HEADER} bytes.")


def parse_status(header: bytes) -> int:
    """The status code of an HTTP/1 response header."""
    parts = header.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise EngineError(f"The engine answered something that is not HTTP: {header[:40]!r}")
    return int(parts[1])


def _error_text(sock: socket.socket, header: bytes) -> str:
    length = next(
        (int(line[15:]) for line in header.lower().split(b"\r\n") if line.startswith(b"content-length:")), MOST_ERROR
    )
    body = bytearray()
    with contextlib.suppress(OSError):
        while len(body) < min(length, MOST_ERROR):
            piece = sock.recv(4096)
            if not piece:
                break
            body += piece
    return body.decode(errors="replace").strip()
