"""An operation's output as the pages show it: the last lines, and what came since a point."""

from __future__ import annotations

import dataclasses
from typing import Any

from agents.models import Operation
from agents.operations import selectors

MOST_LINES = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownLog:
    """`last` names the newest piece: who has seen it asks with `since`. `cut` says that there were earlier lines."""

    lines: list[str]
    last: int
    cut: bool


def shown_log(operation: Operation, *, since: int = 0) -> ShownLog:
    """The last MOST_LINES of what came after the piece `since`."""
    pieces = selectors.operation_log(operation, since=since)
    lines = [line for piece in pieces for line in piece.text.rstrip("\n").split("\n")]
    return ShownLog(
        lines=lines[-MOST_LINES:],
        last=pieces[-1].pk if pieces else since,
        cut=len(lines) > MOST_LINES or selectors.log_was_cut(operation, pieces),
    )


def log_context(operation: Operation) -> dict[str, Any]:
    """For the partial _oplog.html."""
    return {"log": shown_log(operation), "log_most": MOST_LINES}
