"""Linking one's own Unix account by its password: the page asks, the runner checks again, the broker decides."""

from __future__ import annotations

import pwd
import re
import threading
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from agents.broker.protocol import ACCOUNT, MOST_PASSWORD
from agents.engine.errors import BrokerRefused
from agents.models import User
from agents.operations import audit, gateway, links, permissions
from agents.operations.engines import Engines
from agents.operations.errors import Conflict, Invalid, Refused
from agents.operations.permissions import Action

AT_ONCE = 4  # PAM is slow on purpose; the runner's other requests go on meanwhile
_places = threading.BoundedSemaphore(AT_ONCE)


def request_link(user: User, *, account: str, password: str) -> None:
    """In the pages: link the Unix account `account` to `user`. Takes some seconds.

    Raises Refused, Conflict, Unavailable, Invalid at `account`, `password`. The password is kept nowhere.
    """
    permissions.check(user, Action.LINK_ACCOUNT)
    errors: dict[str, list[str]] = {}
    if not re.fullmatch(ACCOUNT, account):
        errors["account"] = ["This is no name of a Unix account."]
    if not _fits(password):
        errors["password"] = [f"Type the account's password; at most {MOST_PASSWORD} bytes."]
    if errors:
        raise Invalid(errors)
    gateway.link_account(user.get_username(), account, password)


def link_account(user: User | None, request: Mapping[str, Any], *, engines: Engines) -> None:
    """In the runner: the same rules again, the broker's answer, the audit. Raises Refused, Conflict, BrokerRefused."""
    if user is None or not permissions.can(user, Action.LINK_ACCOUNT):
        raise Refused("This account may not link a Unix account.")
    account, password = request.get("account"), request.get("password")
    if not isinstance(account, str) or not re.fullmatch(ACCOUNT, account) or not _fits(password):
        raise Refused("Account and password have to be texts of the right size.")
    if not _places.acquire(blocking=False):
        raise Conflict("Others link their accounts just now.", remedy="Try again in some seconds.")
    try:
        engines.broker.link_with_password(user.get_username(), account, str(password))
    except BrokerRefused as refused:
        audit.record_refusal(Action.LINK_ACCOUNT, actor=user, summary=f"{_known(account)}: {refused.code}")
        raise
    finally:
        _places.release()
    with transaction.atomic(durable=True):
        audit.record(Action.LINK_ACCOUNT, actor=user, summary=account)
    links.follow(engines)


def _fits(password: object) -> bool:
    if not isinstance(password, str) or "\0" in password:
        return False
    return 0 < len(password.encode("utf-8", "surrogatepass")) <= MOST_PASSWORD and password.isprintable()


def _known(account: str) -> str:
    """People type passwords into the wrong field: only names that the machine knows are written down."""
    try:
        pwd.getpwnam(account)
    except KeyError:
        return "an account that does not exist"
    return account
