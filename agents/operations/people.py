"""What an administrator, or root, does with people: adds them, lets them in, switches them off, deletes them."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from agents.models import LIVE_STATES, HostAccount, User
from agents.operations import audit, gateway, invitations, permissions
from agents.operations.accounts import check_second_account, check_username
from agents.operations.ending import end_agents
from agents.operations.errors import Conflict, Invalid, NotFound, OperationError, Refused, Unavailable
from agents.operations.invitations import Link
from agents.operations.permissions import Action, Person
from agents.operations.purging import purge_all_of

MOST_NAME = 100
OFF = "The account of its owner was switched off."
GONE = "The account of its owner was deleted."


class Root(enum.Enum):
    """Root at the command line, who may do all of this without a row of their own."""

    ROOT = "root"


ROOT: Final = Root.ROOT
By = Person | Root


def people(by: By) -> QuerySet[User]:
    """Everybody, those who were deleted too, with what the list shows. Raises NotFound."""
    _check(by)
    live = Count("agents", filter=Q(agents__state__in=LIVE_STATES), distinct=True)
    return User.objects.select_related("host_account").annotate(
        running=live, states=Count("agent_states", distinct=True)
    )


def get_person(by: By, username: str) -> User:
    """One person with the same. Raises NotFound."""
    found = people(by).filter(username=username[:150]).first()
    if found is None:
        raise NotFound(f"There is no account {username[:40]}." if by is ROOT else "There is nothing here.")
    return found


def add_person(by: By, username: str, *, name: str = "", email: str = "", insecure_http: bool = False) -> Link:
    """A new account without a password, and the link by which its person chooses one.

    Raises NotFound, Refused without TLS (see accounts), Invalid, Conflict.
    """
    _check(by)
    check_username(username)
    _check_words(name, email)
    _refusing(by, lambda: check_second_account(insecure_http=insecure_http or settings.JACKIN_INSECURE_HTTP))
    with transaction.atomic(durable=True):
        if User.objects.filter(username__iexact=username).exists():
            raise Conflict(f"There is, or was, an account {username}.", remedy="Choose another name: names stay taken.")
        user = User(username=username, first_name=name, email=email)
        user.set_unusable_password()
        user.save(force_insert=True)
        audit.record("person.add", actor=_actor(by), summary=username)
        return invitations.make(user, made_by=_actor(by))


def make_link(by: By, username: str, *, insecure_http: bool = False) -> Link:
    """A new invitation or reset link; older ones are void. Raises NotFound, Refused."""
    user = _there(by, username)
    if user.last_login is None:
        _refusing(by, lambda: check_second_account(insecure_http=insecure_http or settings.JACKIN_INSECURE_HTTP))
    with transaction.atomic(durable=True):
        return invitations.make(user, made_by=_actor(by))


def disable(by: By, username: str) -> int:
    """Nobody logs in under it any more; sessions and agents end. Returns how many agents. Raises NotFound, Conflict."""
    user = _there(by, username)
    with transaction.atomic(durable=True):
        _not_the_last(by, user)
        if not User.objects.filter(pk=user.pk, is_active=True).update(is_active=False):
            raise Conflict(f"{username} is switched off already.")
        _lock_out(user)
        ended = end_agents(user, because=OFF)
        audit.record("person.disable", actor=_actor(by), summary=username, detail={"ended": ended})
    _wake()
    return ended


def enable(by: By, username: str, *, insecure_http: bool = False) -> None:
    """They may log in again, with the password that they had. Raises NotFound, Conflict, Refused."""
    user = _there(by, username)
    _refusing(by, lambda: check_second_account(insecure_http=insecure_http or settings.JACKIN_INSECURE_HTTP))
    with transaction.atomic(durable=True):
        if not User.objects.filter(pk=user.pk, is_active=False, deleted_at__isnull=True).update(is_active=True):
            raise Conflict(f"{username} is switched on already.")
        audit.record("person.enable", actor=_actor(by), summary=username)


def delete(by: By, username: str, *, typed: str, purge: bool) -> list[str]:
    """Gone for everybody: no login, no link, no agent; the name stays taken, so that the ledger stays true.

    `purge` asks for the end of all their states and snapshots, too. Returns what could not be asked for.
    Raises NotFound, Conflict (oneself, the last administrator), Invalid at `typed`.
    """
    user = _there(by, username)
    if by is not ROOT and user.pk == by.pk:
        _refuse(by, Conflict("Nobody deletes themselves.", remedy="Another administrator, or root, can."))
    if typed != username:
        raise Invalid({"typed": [f"Type {username} to confirm."]})
    with transaction.atomic(durable=True):
        _not_the_last(by, user)
        if not User.objects.filter(pk=user.pk, deleted_at__isnull=True).update(
            deleted_at=timezone.now(), is_active=False, is_staff=False, is_superuser=False, first_name="", last_name="",
            email="", must_change_password=False, one_time_expires_at=None,
        ):  # fmt: skip
            raise NotFound
        user.refresh_from_db()
        user.set_unusable_password()
        user.save(update_fields=["password"])
        _lock_out(user)
        ended = end_agents(user, because=GONE)
        detail: audit.Detail = {"ended": ended, "purge": purge}
        audit.record("person.delete", actor=_actor(by), summary=username, detail=detail)
    problems = _purge(user, by=by) if purge else []
    _wake()
    return problems


def set_administrator(by: By, username: str, *, wanted: bool) -> None:
    """Make somebody an administrator, or no longer. Raises NotFound, Conflict for the last one."""
    user = _there(by, username)
    with transaction.atomic(durable=True):
        if not wanted:
            _not_the_last(by, user)
        elif not user.is_active:
            raise Conflict(f"{username} is switched off.")
        if not User.objects.filter(pk=user.pk, is_superuser=not wanted).update(is_superuser=wanted, is_staff=wanted):
            raise Conflict(f"{username} is {'one' if wanted else 'none'} already.")
        audit.record("person.administrator", actor=_actor(by), summary=f"{username}: {'yes' if wanted else 'no'}")


def _there(by: By, username: str) -> User:
    user = get_person(by, username)
    if user.deleted_at is not None:
        raise NotFound(f"{username[:40]} was deleted.")
    return user


def _check(by: By) -> None:
    if by is not ROOT:
        permissions.check(by, Action.MANAGE_PEOPLE)


def _actor(by: By) -> User | None:
    return by if isinstance(by, User) else None


def _refuse(by: By, error: OperationError) -> None:
    audit.record_refusal(Action.MANAGE_PEOPLE, actor=_actor(by), summary=error.message)
    raise error


def _refusing(by: By, look: Callable[[], None]) -> None:
    try:
        look()
    except Refused as refused:
        _refuse(by, refused)


def _not_the_last(by: By, user: User) -> None:
    """Somebody who can log in has to remain who may do all this. Inside the transaction: two at once leave one."""
    able = User.objects.filter(is_active=True, is_superuser=True, deleted_at__isnull=True, must_change_password=False)
    others = able.exclude(pk=user.pk).exclude(password__startswith=UNUSABLE_PASSWORD_PREFIX)
    if user.is_superuser and user.is_active and not others.exists():
        raise Conflict(
            f"{user.get_username()} is the only administrator who can log in.", remedy="Make another one first."
        )


def _lock_out(user: User) -> None:
    """End every session and link: an old session must not come alive when the account is switched on again."""
    invitations.void(user)
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get("_auth_user_id") == str(user.pk):
            session.delete()


def _purge(user: User, *, by: By) -> list[str]:
    """Ask for the purge of all that a person keeps who was deleted; what could not be asked for, in sentences."""
    try:
        purge_all_of(user, by=_actor(by))
    except OperationError as error:
        return [f"{error.message} {error.remedy}".strip()]
    return []


def _wake() -> None:
    with contextlib.suppress(Unavailable):  # the runner looks by itself, each minute at the latest
        gateway.follow()


def _check_words(name: str, email: str) -> None:
    errors: dict[str, list[str]] = {}
    if len(name) > MOST_NAME or not name.isprintable():
        errors["name"] = [f"At most {MOST_NAME} printable characters."]
    if email and (len(email) > 254 or "@" not in email or not email.isprintable() or " " in email):
        errors["email"] = ["This is no address, like name@example.org."]
    if errors:
        raise Invalid(errors)


def account_of(user: User) -> HostAccount | None:
    """The Unix account, as mirrored."""
    return HostAccount.objects.filter(user=user).first()
