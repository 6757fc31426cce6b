"""People and their passwords: the first administrator, one-time passwords, too many failures."""

from __future__ import annotations

import datetime
import logging
import re
import secrets
from collections.abc import Iterable
from typing import Any

from axes.utils import reset as axes_reset
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from agents.engine.types import AccountLink
from agents.models import User
from agents.models.accounts import USERNAME_PATTERN
from agents.operations import audit, gateway, permissions
from agents.operations.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from agents.operations.permissions import Action
from agents.operations.text import visible

logger = logging.getLogger(__name__)

ONE_TIME_VALID = datetime.timedelta(hours=1)
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no characters that look like others


class OneTimeAwareBackend(ModelBackend):
    """Django's own check, but a one-time password works once and only within its hour."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        if username is None or password is None:
            return None
        user = super().authenticate(request, username=username, password=password, **kwargs)
        if not isinstance(user, User) or not user.must_change_password:
            return user if isinstance(user, User) else None
        return user if _use_up_one_time_password(user) else None


def _use_up_one_time_password(user: User) -> bool:
    """Make the password unusable; True for the one caller who came first and in time."""
    now = timezone.now()
    unusable = make_password(None)
    with transaction.atomic():
        used = User.objects.filter(pk=user.pk, password=user.password, one_time_expires_at__gt=now).update(
            password=unusable, one_time_expires_at=None
        )
        if used:
            audit.record("password.one-time.used", actor=user)
        else:
            audit.record_refusal("password.one-time.used", actor=user, summary="over or used already")
    if not used:
        return False
    user.password, user.one_time_expires_at = unusable, None
    if user.is_superuser:
        try:
            gateway.first_login()
        except Unavailable as unavailable:  # the password in that file is worthless by now
            logger.warning("The file with the first password could not be removed: %s", unavailable.message)
    return True


def new_one_time_password() -> str:
    """Four groups of five, about 99 bits."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))


def first_administrator(username: str, *, password: str) -> bool:
    """Make the first administrator with a one-time password; False when there is an administrator already."""
    check_username(username)
    with transaction.atomic(durable=True):
        if User.objects.filter(is_superuser=True).exists():
            return False
        user = User(username=username, is_staff=True, is_superuser=True)
        _set_one_time_password(user, password)
        user.save(force_insert=True)
        audit.record("person.add", actor=None, summary=f"{username}, first administrator")
    return True


def add_person(username: str, *, insecure_http: bool) -> str:
    """Make one more web account and return its one-time password.

    Raises Refused unless plain HTTP for several people was accepted in so many words, Invalid, Conflict.
    """
    check_username(username)
    check_second_account(insecure_http=insecure_http)
    password = new_one_time_password()
    with transaction.atomic(durable=True):
        if User.objects.filter(username=username).exists():
            raise Conflict(f"There is an account {username} already.")
        user = User(username=username)
        _set_one_time_password(user, password)
        user.save(force_insert=True)
        audit.record("person.add", actor=None, summary=username)
    return password


def check_second_account(*, insecure_http: bool) -> None:
    """Raises Refused unless several people are safe here, or plain HTTP was accepted in so many words."""
    if User.objects.exists() and not (insecure_http or settings.JACKIN_TLS):
        raise Refused(
            "A second account needs TLS: without it another program on this machine can read the login cookies.",
            remedy="Start the service with --insecure-http (and set JACKIN_INSECURE_HTTP=1 here) to accept that.",
        )


def renew_one_time_password(username: str) -> str:
    """A fresh one-time password for `username`, for root to hand over. Ends their sessions. Raises NotFound."""
    password = new_one_time_password()
    with transaction.atomic(durable=True):
        user = User.objects.filter(username=username, deleted_at__isnull=True).first()
        if user is None:
            raise NotFound(f"There is no account {username}.")
        _set_one_time_password(user, password)
        user.save(update_fields=["password", "must_change_password", "one_time_expires_at"])
        audit.record("password.one-time.made", actor=None, summary=username)
    return password


def change_password(user: User, *, new: str, old: str | None = None) -> None:
    """Set the password that `user` chose; the caller keeps their session (`update_session_auth_hash`).

    `old` is needed unless the password has to be changed. Raises Refused, Invalid at `old_password`, `new_password`.
    """
    permissions.check(user, Action.CHANGE_OWN_PASSWORD)
    if not user.must_change_password and (old is None or not user.check_password(old)):
        audit.record_refusal(Action.CHANGE_OWN_PASSWORD, actor=user, summary="wrong old password")
        raise Invalid({"old_password": ["That is not your present password."]})
    try:
        validate_password(new, user)
    except ValidationError as error:
        raise Invalid({"new_password": list(error.messages)}) from None
    with transaction.atomic(durable=True):
        user.set_password(new)
        user.must_change_password = False
        user.one_time_expires_at = None
        user.save(update_fields=["password", "must_change_password", "one_time_expires_at"])
        audit.record(Action.CHANGE_OWN_PASSWORD, actor=user)


def note_refused_login(username: str) -> None:
    """Write down that somebody tried to log in in vain: the name only where there is such an account.

    People type passwords into the wrong field.
    """
    known = User.objects.filter(username=username).exists()
    audit.record_refusal("person.login", actor=username if known else "anonymous", summary="not let in")


def without_account(links: Iterable[AccountLink]) -> list[str]:
    """The names that are linked although nobody logs in under them: written wrong, or not added yet."""
    linked = {link.web_user for link in links}
    return sorted(linked - set(User.objects.filter(username__in=linked).values_list("username", flat=True)))


def unlock(username: str) -> int:
    """Forget the failed logins of `username`; returns how many records there were. Raises NotFound."""
    if not User.objects.filter(username=username).exists():
        raise NotFound(f"There is no account {visible(username[:40])}.")
    with transaction.atomic(durable=True):
        forgotten = int(axes_reset(username=username))
        audit.record("login.unlock", actor=None, summary=username)
    return forgotten


def several_people() -> bool:
    """Whether more than one account exists: over plain HTTP the pages show a banner then."""
    return User.objects.filter(is_active=True).count() > 1


def _set_one_time_password(user: User, password: str) -> None:
    user.set_password(password)
    user.must_change_password = True
    user.one_time_expires_at = timezone.now() + ONE_TIME_VALID


def check_username(username: str) -> None:
    if not re.fullmatch(USERNAME_PATTERN, username):
        problem = f"“{visible(username[:40])}” is no user name: 1 to 32 of A-Z, a-z, 0-9, . _ and -, a letter first."
        raise Invalid({"username": [problem]})
