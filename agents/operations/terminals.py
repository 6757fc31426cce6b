"""Who may look into which terminal."""

from __future__ import annotations

import dataclasses

from agents.operations import audit, selectors
from agents.operations.permissions import Action, Person


@dataclasses.dataclass(frozen=True, kw_only=True)
class TerminalAccess:
    """What a viewer needs to ask the terminals process for a stream."""

    key: str
    name: str
    state: str
    viewer: str


def get_terminal(user: Person, key: str) -> TerminalAccess:
    """The terminal of the agent `key` for `user`. Raises NotFound for anybody but its owner. Touches the database."""
    agent = selectors.get_agent(user, key, action=Action.ATTACH_TERMINAL)
    return TerminalAccess(key=agent.key, name=agent.name, state=agent.state, viewer=user.get_username())


def record_attach(user: Person, access: TerminalAccess) -> None:
    """Write down that a viewer looks in; once a minute: a window that comes and goes must not fill the disk."""
    agent = selectors.get_agent(user, access.key, action=Action.ATTACH_TERMINAL)
    audit.record_once_a_minute(Action.ATTACH_TERMINAL, actor=access.viewer, agent=agent, summary=agent.name)
