"""The one question a terminal's websocket asks the database: may this session see this agent, now?"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user

from agents.models import User
from agents.operations import terminals
from agents.operations.errors import NotFound
from agents.operations.terminals import TerminalAccess
from agents.web import peer

Scope = Mapping[str, Any]


class NotLoggedIn(Exception):
    """No session, one that has ended, or one whose password has to be changed first."""


async def open_terminal(scope: Scope, key: str) -> TerminalAccess:
    """May look, and the look is written down. Raises NotLoggedIn, NotFound."""
    found: TerminalAccess = await database_sync_to_async(_open_terminal)(scope, key)
    return found


async def still_open(scope: Scope, key: str) -> bool:
    """Whether the session still lives and the agent is still this person's."""
    try:
        await database_sync_to_async(_get_terminal)(scope, key)
    except (NotLoggedIn, NotFound):
        return False
    return True


def _open_terminal(scope: Scope, key: str) -> TerminalAccess:
    user = _user(scope)
    found = terminals.get_terminal(user, key)
    terminals.record_attach(user, found)
    return found


def _get_terminal(scope: Scope, key: str) -> TerminalAccess:
    return terminals.get_terminal(_user(scope), key)


def _user(scope: Scope) -> User:
    """The person of the session as the database has it now, not as the scope remembers it."""
    session_key = getattr(scope.get("session"), "session_key", None)
    if not session_key:
        raise NotLoggedIn
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    bound = session.get(peer.BOUND)
    if bound is not None and not peer.fits(bound, peer.of(scope.get("client"), scope.get("server"))):
        raise NotLoggedIn  # the cookie was stolen by another account of this machine, or planted by one
    user = get_user(SimpleNamespace(session=session))  # type: ignore[arg-type] # it reads only the session
    if not isinstance(user, User) or not user.is_active or user.must_change_password:
        raise NotLoggedIn
    return user
