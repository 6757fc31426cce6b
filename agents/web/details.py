"""The side panel of an agent: how it is isolated, what it was granted, what happened."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Mapping
from typing import Any, Final

from agents.models import Agent, AuditEvent, OperationKind
from agents.web.rows import asked_of
from agents.web.shown import latest_operation

MOST_EVENTS = 40

WORDS: Final[Mapping[str, str]] = {
    "agent.launch": "launch asked for",
    "agent.running": "running, mounts compared with what was granted",
    "agent.ejecting": "eject begins",
    "agent.eject": "eject asked for",
    "agent.ended": "ended",
    "agent.failed": "failed",
    "operation.launch.succeeded": "launch done",
    "operation.launch.failed": "launch failed",
    "operation.launch.cancelled": "launch cancelled",
    "operation.cancel": "cancel asked for",
    "operation.eject.succeeded": "eject done",
    "operation.eject.failed": "eject failed",
    "mounts.grant": "folders granted",
    "state.snapshot": "snapshot of its state asked for",
    "operation.snapshot.succeeded": "snapshot taken",
    "operation.snapshot.failed": "snapshot failed",
    "operation.snapshot.cancelled": "snapshot cancelled",
    "terminal.attach": "terminal opened",
    "agent.view": "looking at the page",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownEvent:
    at: datetime.datetime
    words: str


def events_of(agent: Agent) -> list[ShownEvent]:
    """The last events of an agent that the caller was allowed to see; the same again and again is one line."""
    found = AuditEvent.objects.filter(agent_key=agent.key).order_by("-pk")[:MOST_EVENTS]
    return [
        ShownEvent(at=group[0].at, words=words if len(group) == 1 else f"{words}, {len(group)} times")
        for words, group in ((words, list(same)) for words, same in itertools.groupby(found, key=_words))
    ]


def _words(event: AuditEvent) -> str:
    words = WORDS.get(event.action, event.action.replace(".", " "))
    if event.outcome == AuditEvent.Outcome.REFUSED:
        words = f"refused: {words}"
    by = "" if event.actor == "system" else f", {event.actor}"
    reason = f": {event.summary}" if event.action in ("agent.ended", "agent.failed") and event.summary else ""
    return f"{words}{by}{reason}"


def asked_mounts(agent: Agent) -> list[Mapping[str, Any]]:
    """What the launch asked for: shown until the runner has granted it."""
    launch = latest_operation(agent, kind=OperationKind.LAUNCH)
    return asked_of(launch)


def isolation_words(agent: Agent, *, account: str) -> str:
    """A few sentences, from what this agent really got."""
    grants = list(agent.grants.all())
    writable = sum(grant.mode == "rw" for grant in grants)
    folders = f"{len(grants)} folder{'' if len(grants) == 1 else 's'}"
    sees = f"Sees {folders} of this machine and may write to {writable or 'none'} of them." if grants else ""
    acts = f"Acts on files as {account or 'your Unix account'}."
    return " ".join(
        filter(
            None,
            (
                "Own container, own network.",
                sees,
                acts,
                "Root inside is nobody outside. Reaches the internet, not this machine. Shares its kernel.",
            ),
        )
    )
