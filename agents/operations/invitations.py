"""Links that let one person in once: made by an administrator or root, kept as a hash, used to choose a password."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import secrets

from axes.utils import reset as axes_reset
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from agents.broker.tries import Tries
from agents.models import Invitation, User
from agents.operations import audit
from agents.operations.errors import Invalid, NotFound, Refused

VALID = {Invitation.Kind.INVITE: datetime.timedelta(days=7), Invitation.Kind.RESET: datetime.timedelta(hours=1)}
MOST_SECRET = 128
NO_LONGER = "This link is not valid (any more): it was used, replaced by a newer one, or its time is over."
ASK = "Ask the administrator for a new one."

# In memory: a secret of 256 bits is not guessed, whatever the number of tries; this bounds the noise.
_wrong = Tries(most=10, seconds=15 * 60)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """A link that was just made. `secret` is shown once and known to nobody afterwards."""

    username: str
    kind: str
    expires_at: datetime.datetime
    secret: str = dataclasses.field(repr=False)


def make(user: User, *, made_by: User | None) -> Link:
    """A link for `user`, which voids every older one; inside the caller's transaction, who has checked permission.

    An invitation for who never had a password, else a reset. `made_by` is None for root.
    """
    if not user.is_active or user.deleted_at is not None:
        raise Refused(f"{user.get_username()} is switched off.", remedy="Switch the account on first.")
    first = user.last_login is None and not user.has_usable_password()
    kind = Invitation.Kind.INVITE if first else Invitation.Kind.RESET
    void(user)
    secret = secrets.token_urlsafe(32)
    made = Invitation.objects.create(
        secret_hash=_hash(secret),
        user=user,
        kind=kind,
        created_by=audit.actor_name(made_by)[:64],
        expires_at=timezone.now() + VALID[kind],
    )
    audit.record(f"person.{kind}", actor=made_by, summary=user.get_username())
    return Link(username=user.get_username(), kind=kind, expires_at=made.expires_at, secret=secret)


def void(user: User) -> None:
    """No link of `user` is good any more."""
    now = timezone.now()
    Invitation.objects.filter(user=user, used_at__isnull=True, expires_at__gt=now).update(expires_at=now)


def look(secret: str, *, came_from: str) -> User:
    """Whom the link is for; it stays good. Raises NotFound, Refused after too many wrong ones from `came_from`."""
    return _find(secret, came_from=came_from).user


def use(secret: str, *, password: str, came_from: str) -> User:
    """Set the password that the person chose, once. Raises NotFound, Refused, Invalid at `new_password`."""
    found = _find(secret, came_from=came_from)
    user = found.user
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Invalid({"new_password": list(error.messages)}) from None
    with transaction.atomic(durable=True):
        now = timezone.now()
        unused = Invitation.objects.filter(
            pk=found.pk, used_at__isnull=True, expires_at__gt=now, user__is_active=True, user__deleted_at__isnull=True
        )
        used = unused.update(used_at=now)
        if used:
            user.refresh_from_db()
            user.set_password(password)
            user.must_change_password, user.one_time_expires_at = False, None
            user.save(update_fields=["password", "must_change_password", "one_time_expires_at"])
            void(user)
            axes_reset(username=user.get_username())
            audit.record("invitation.used", actor=user, summary=found.kind)
    if not used:
        raise NotFound(NO_LONGER, remedy=ASK)
    return user


def _find(secret: str, *, came_from: str) -> Invitation:
    if wait := _wrong.wait(came_from):
        raise Refused("There were too many links that are not valid.", remedy=f"Wait {-(-wait // 60)} minutes.")
    wanted = _hash(secret[:MOST_SECRET])
    found = Invitation.objects.select_related("user").filter(secret_hash=wanted).first()
    if found is None or not secrets.compare_digest(found.secret_hash, wanted) or not _is_good(found):
        _wrong.count(came_from)
        audit.record_refusal("invitation.used", actor=found.user if found else "anonymous", summary="not valid")
        raise NotFound(NO_LONGER, remedy=ASK)
    return found


def _is_good(found: Invitation) -> bool:
    user = found.user
    return found.used_at is None and found.expires_at > timezone.now() and user.is_active and user.deleted_at is None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
