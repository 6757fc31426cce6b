"""Following the broker's links: what changed is mirrored and told, and what ran under the old account is ended."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Iterable

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from agents.engine.errors import BrokerRefused
from agents.engine.types import AccountLink
from agents.models import LIVE_STATES, OPEN_STATES, AuditEvent, HostAccount, Operation, User
from agents.operations import audit
from agents.operations.ending import end_agents
from agents.operations.engines import Engines

logger = logging.getLogger(__name__)

CHANGES = ("account.link", "account.unlink", "account.changed")
TOLD_FOR = datetime.timedelta(days=7)
MOST_TOLD = 5
CHANGED = "The Unix account that it ran as was changed."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """One change of a person's link, for them to read."""

    at: datetime.datetime
    words: str


def follow(engines: Engines) -> int:
    """Mirror the links and end what may not go on, by every route there is; returns how many rows changed.

    Idempotent. Raises BrokerUnreachable, BrokerRefused.
    """
    links = engines.broker.links()
    gone = User.objects.filter(deleted_at__isnull=False, username__in=[link.web_user for link in links])
    for person in gone:
        if _purges(person):
            continue  # their files are removed as the account that they belong to
        engines.broker.unlink(person.username)
        links = [link for link in links if link.web_user != person.username]
    changed = mirror(links)
    for owner in User.objects.filter(agents__state__in=LIVE_STATES).distinct():
        if reason := _may_not_go_on(owner, engines):
            with transaction.atomic(durable=True):
                if end_agents(owner, because=reason):
                    audit.record(
                        "account.changed", actor=None, summary=f"{owner.username}: {reason}", detail=_of(owner)
                    )
    return changed


def mirror(links: Iterable[AccountLink]) -> int:
    """Make the HostAccount rows equal to the broker's links; returns how many rows changed."""
    wanted = {link.web_user: link for link in links}
    changed = 0
    with transaction.atomic(durable=True):
        for row in HostAccount.objects.select_related("user"):
            if row.user.username not in wanted:
                audit.record(
                    "account.unlink", actor=None, summary=f"{row.user.username}: {row.account}", detail=_of(row.user)
                )
                row.delete()
                end_agents(row.user, because=CHANGED)
                changed += 1
        for user in User.objects.filter(username__in=wanted):
            changed += _mirror_one(user, wanted[user.username])
    return changed


def changes_for(person: User) -> list[Change]:
    """What happened to the person's link lately, the newest first; their very first link is no change."""
    since = timezone.now() - TOLD_FOR
    events = AuditEvent.objects.filter(
        actor=audit.SYSTEM, action__in=CHANGES, at__gte=since, detail__user=person.get_username()
    )
    return [Change(at=event.at, words=_words(event)) for event in events[:MOST_TOLD] if _words(event)]


def _words(event: AuditEvent) -> str:
    detail = event.detail if isinstance(event.detail, dict) else {}
    account, ended = detail.get("account", ""), detail.get("ended", 0)
    also = f" What ran was ended ({ended})." if ended else ""
    if event.action == "account.unlink":
        return f"Your Unix account was taken away from you.{also}"
    if event.action == "account.changed":
        return event.summary.partition(": ")[2]
    return f"You act as {account} now, instead of {detail['before']}.{also}" if detail.get("before") else ""


def _mirror_one(user: User, link: AccountLink) -> int:
    linked_at = parse_datetime(link.linked_at) or timezone.now()
    values = {"account": link.account, "uid": link.uid, "how": link.how[:64], "linked_at": linked_at}
    row = HostAccount.objects.filter(user=user).first()
    if row is not None and all(getattr(row, name) == value for name, value in values.items()):
        return 0
    other = row is not None and (row.account, row.uid) != (link.account, link.uid)
    before = f"{row.account} ({row.uid})" if row is not None and other else ""
    HostAccount.objects.update_or_create(user=user, defaults=values)
    ended = end_agents(user, because=CHANGED) if other else 0
    summary = f"{user.username}: {link.account} ({link.uid}), {link.how}"
    detail = _of(user) | {"account": f"{link.account} ({link.uid})", "before": before, "ended": ended}
    audit.record("account.link", actor=None, summary=summary, detail=detail)
    return 1


def _purges(owner: User) -> bool:
    theirs = Q(agent_state__owner=owner) | Q(snapshot__owner=owner)
    return Operation.objects.filter(theirs, state__in=OPEN_STATES).exists()


def _may_not_go_on(owner: User, engines: Engines) -> str:
    """Why agents of `owner` have to end, or nothing. A name service that does not answer is no reason."""
    if owner.deleted_at is not None or not owner.is_active:
        return "The account of its owner was switched off."
    try:
        engines.broker.identity(owner.get_username())
    except BrokerRefused as refused:
        if refused.code in ("account-changed", "not-linked"):
            return refused.message
    return ""


def _of(user: User) -> audit.Detail:
    return {"user": user.get_username()}
