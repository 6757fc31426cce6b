"""The two wire formats of the terminals process, as pure functions: frames to viewers, messages to the runner."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from collections.abc import Mapping
from typing import Any, Final

BYTES: Final = ord("B")
CONTROL: Final = ord("J")
HEADER: Final = struct.Struct(">BI")  # type, length of the payload

MOST_PAYLOAD: Final = 1024 * 1024
MOST_CONTROL: Final = 16 * 1024
MOST_MESSAGE: Final = 64 * 1024
MOST_SIDE: Final = 1000  # rows or columns; a screen of a million cells is an attack, not a window
MOST_REASON: Final = 1000
AGENT_KEY: Final = re.compile(r"[0-9a-f]{32}\Z")


class ProtocolError(Exception):
    """The other side sent something that is not part of the protocol; the connection ends, the process goes on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """A screen in character cells."""

    rows: int
    columns: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attach:
    """The first frame of a viewer: which agent, who looks, how large the window is."""

    agent: str
    viewer: str
    size: Size


Frame = bytes | dict[str, Any]  # bytes of the terminal, or a control object


def bytes_frame(payload: bytes | bytearray | memoryview) -> bytes:
    """Terminal bytes, at most MOST_PAYLOAD of them."""
    if len(payload) > MOST_PAYLOAD:
        raise ProtocolError(f"a frame of {len(payload)} bytes is longer than {MOST_PAYLOAD}")
    return b"".join((HEADER.pack(BYTES, len(payload)), payload))


def control_frame(control: Mapping[str, Any]) -> bytes:
    """A small JSON object."""
    payload = json.dumps(control, separators=(",", ":")).encode()
    if len(payload) > MOST_CONTROL:
        raise ProtocolError(f"a control of {len(payload)} bytes is longer than {MOST_CONTROL}")
    return HEADER.pack(CONTROL, len(payload)) + payload


class FrameDecoder:
    """Cuts a byte stream into frames; holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises ProtocolError; the stream is of no use afterwards."""
        self._buffer += data
        frames: list[Frame] = []
        at = 0
        while len(self._buffer) - at >= HEADER.size:
            kind, length = HEADER.unpack_from(self._buffer, at)
            _check_header(kind, length)
            end = at + HEADER.size + length
            if len(self._buffer) < end:
                break
            payload = bytes(memoryview(self._buffer)[at + HEADER.size : end])
            frames.append(payload if kind == BYTES else json_object(payload))
            at = end
        del self._buffer[:at]
        return frames


def _check_header(kind: int, length: int) -> None:
    if kind not in (BYTES, CONTROL):
        raise ProtocolError(f"there is no frame of type {kind}")
    most = MOST_PAYLOAD if kind == BYTES else MOST_CONTROL
    if length > most:
        raise ProtocolError(f"a frame of {length} bytes is longer than {most}")


def json_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in `payload`."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("not JSON") from error
    if not isinstance(found, dict):
        raise ProtocolError("not a JSON object")
    return found


def encode_message(message: Mapping[str, Any]) -> bytes:
    """One message of the feed between runner and terminals."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    if len(payload) > MOST_MESSAGE:
        raise ProtocolError(f"a message of {len(payload)} bytes is longer than {MOST_MESSAGE}")
    return payload


def count_of(value: object, *, most: int) -> int:
    """A whole number from 0 to `most`."""
    if type(value) is not int or not 0 <= value <= most:
        raise ProtocolError(f"not a number from 0 to {most}")
    return value


def size_of(rows: object, columns: object) -> Size:
    """A window size with both sides from 1 to MOST_SIDE."""
    size = Size(rows=count_of(rows, most=MOST_SIDE), columns=count_of(columns, most=MOST_SIDE))
    if not size.rows or not size.columns:
        raise ProtocolError("a window without cells")
    return size


def agent_of(value: object) -> str:
    """The key of an agent: 32 hexadecimal digits."""
    if not isinstance(value, str) or not AGENT_KEY.match(value):
        raise ProtocolError("not the key of an agent")
    return value


def reason_of(value: object) -> str:
    """Why something ended, cut to MOST_REASON characters."""
    if not isinstance(value, str):
        raise ProtocolError("not a reason")
    return value[:MOST_REASON]


def attach_of(control: Mapping[str, Any]) -> Attach:
    """The first frame of a viewer."""
    if control.keys() != {"attach", "viewer", "rows", "columns"}:
        raise ProtocolError("the first frame has to be attach, viewer, rows, columns")
    viewer = control["viewer"]
    if not isinstance(viewer, str) or not 0 < len(viewer) <= 64:
        raise ProtocolError("not the name of a viewer")
    return Attach(agent=agent_of(control["attach"]), viewer=viewer, size=size_of(control["rows"], control["columns"]))
