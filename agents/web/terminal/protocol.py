"""What a terminal's websocket may carry: pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from agents.terminals import protocol as frames

MOST_INPUT: Final = 64 * 1024  # one message of the browser; it cuts what is pasted
MOST_TEXT: Final = 1024
DEFAULT_SIZE: Final = frames.Size(rows=24, columns=80)

# Codes of a websocket's end; the page says what they mean and whether to try again. All from the range of
# applications: most others a server may not send (RFC 6455, 7.4).
ENDED: Final = 4000
LOGGED_OUT: Final = 4401
NOT_YOURS: Final = 4404
REFUSED: Final = 4400
UNAVAILABLE: Final = 4503


class BadMessage(Exception):
    """The browser sent what our page never sends."""


def size_in(query: bytes) -> frames.Size:
    """The window's size from `rows=…&columns=…`, or the usual one."""
    fields = dict(part.split(b"=", 1) for part in query.split(b"&") if part.count(b"=") == 1)
    try:
        return frames.size_of(int(fields[b"rows"]), int(fields[b"columns"]))
    except (KeyError, ValueError, frames.ProtocolError):
        return DEFAULT_SIZE


def frame_of(message: Mapping[str, Any]) -> bytes:
    """A message of the browser as a frame for terminals. Raises BadMessage."""
    data, text = message.get("bytes"), message.get("text")
    if data is not None:
        if len(data) > MOST_INPUT:
            raise BadMessage("too much input at once")
        return frames.bytes_frame(data)
    if text is None or len(text) > MOST_TEXT:
        raise BadMessage("too long")
    try:
        return frames.control_frame(_control(json.loads(text)))
    except (ValueError, RecursionError, frames.ProtocolError) as error:
        raise BadMessage("not a control") from error


def _control(asked: Any) -> Mapping[str, Any]:
    match asked:
        case {"type": "resize", "rows": rows, "columns": columns} if len(asked) == 3:
            size = frames.size_of(rows, columns)
            return {"resize": [size.rows, size.columns]}
        case {"type": "ack", "bytes": count} if len(asked) == 2:
            return {"ack": frames.count_of(count, most=2**31)}
    raise frames.ProtocolError("not a control")


def message_of(control: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A control of terminals as the browser reads it; None for one that the page does not need."""
    match control:
        case {"ready": True, "replay": count}:
            return {"type": "ready", "replay": count}
        case {"waiting": waiting}:
            return {"type": "waiting", "waiting": bool(waiting)}
        case {"viewers": count, "answers": answers}:
            return {"type": "viewers", "count": count, "answers": bool(answers)}
        case {"typed": count}:
            return {"type": "typed", "bytes": count}
        case {"ended": reason}:
            return {"type": "ended", "reason": str(reason)}
        case {"refused": reason}:
            return {"type": "refused", "reason": str(reason)}
    return None
