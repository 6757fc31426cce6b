"""Who may do what: one table. `check` raises, `can` answers a template."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from django.contrib.auth.models import AnonymousUser

from agents.models import Agent, AgentState, Operation, StateSnapshot, User
from agents.operations import audit
from agents.operations.errors import NotFound, Refused

Person = User | AnonymousUser
Thing = Agent | Operation | AgentState | StateSnapshot


class Action(enum.StrEnum):
    LAUNCH = "agent.launch"
    CHECK_MOUNTS = "mounts.check"
    VIEW_AGENT = "agent.view"
    ATTACH_TERMINAL = "terminal.attach"
    EJECT_AGENT = "agent.eject"
    VIEW_OPERATION = "operation.view"
    CANCEL_OPERATION = "operation.cancel"
    RETRY_OPERATION = "operation.retry"
    EXILE_OWN = "exile.own"
    EXILE_PERSON = "exile.person"
    EXILE_EVERYONE = "exile.everyone"
    VIEW_STATE = "state.view"
    PURGE_STATE = "state.purge"
    PURGE_SNAPSHOT = "snapshot.purge"
    PURGE_ANY = "purge.any"
    EXPORT_LEDGER = "ledger.export"
    SNAPSHOT_STATE = "state.snapshot"
    VIEW_SNAPSHOT = "snapshot.view"
    RESTORE_SNAPSHOT = "snapshot.restore"
    LINK_ACCOUNT = "account.prove"
    MANAGE_PEOPLE = "people.manage"
    CHANGE_OWN_PASSWORD = "password.change"  # noqa: S105 - the name of an action


class Role(enum.StrEnum):
    LOGGED_IN = "logged in"  # an active account, even one that has to change its password first
    PERSON = "person"  # an active account that may work
    OWNER = "owner"  # a person, of a thing of their own
    ADMINISTRATOR = "administrator"  # a person who is a superuser


POLICY: Final[Mapping[Action, frozenset[Role]]] = {
    Action.LAUNCH: frozenset({Role.PERSON}),
    Action.CHECK_MOUNTS: frozenset({Role.PERSON}),
    Action.VIEW_AGENT: frozenset({Role.OWNER}),
    Action.ATTACH_TERMINAL: frozenset({Role.OWNER}),
    Action.EJECT_AGENT: frozenset({Role.OWNER}),
    Action.VIEW_OPERATION: frozenset({Role.OWNER}),
    Action.CANCEL_OPERATION: frozenset({Role.OWNER}),
    Action.RETRY_OPERATION: frozenset({Role.OWNER}),
    Action.EXILE_OWN: frozenset({Role.PERSON}),
    Action.EXILE_PERSON: frozenset({Role.ADMINISTRATOR}),
    Action.EXILE_EVERYONE: frozenset({Role.ADMINISTRATOR}),
    Action.VIEW_STATE: frozenset({Role.OWNER}),
    Action.PURGE_STATE: frozenset({Role.OWNER, Role.ADMINISTRATOR}),
    Action.PURGE_SNAPSHOT: frozenset({Role.OWNER, Role.ADMINISTRATOR}),
    Action.PURGE_ANY: frozenset({Role.ADMINISTRATOR}),
    Action.EXPORT_LEDGER: frozenset({Role.ADMINISTRATOR}),
    Action.SNAPSHOT_STATE: frozenset({Role.OWNER}),
    Action.VIEW_SNAPSHOT: frozenset({Role.OWNER}),
    Action.RESTORE_SNAPSHOT: frozenset({Role.OWNER}),
    Action.LINK_ACCOUNT: frozenset({Role.PERSON}),
    Action.MANAGE_PEOPLE: frozenset({Role.ADMINISTRATOR}),
    Action.CHANGE_OWN_PASSWORD: frozenset({Role.LOGGED_IN}),
}


def roles_of(person: Person, thing: Thing | None = None) -> frozenset[Role]:
    """An administrator is no owner of what is others': may stop and purge it, but opens no terminal of theirs."""
    if not person.is_authenticated or not person.is_active:
        return frozenset()
    if person.must_change_password:
        return frozenset({Role.LOGGED_IN})
    roles = {Role.LOGGED_IN, Role.PERSON}
    if thing is not None and owner_id(thing) == person.pk:
        roles.add(Role.OWNER)
    if person.is_superuser:
        roles.add(Role.ADMINISTRATOR)
    return frozenset(roles)


def owner_id(thing: Thing) -> int | None:
    return thing.requested_by_id if isinstance(thing, Operation) else thing.owner_id


def can(person: Person, action: Action, thing: Thing | None = None) -> bool:
    return bool(POLICY[action] & roles_of(person, thing))


def check(person: Person, action: Action, thing: Thing | None = None) -> None:
    """Return if allowed. Otherwise write the refusal down and raise NotFound for a thing, Refused without one.

    What is for administrators only does not exist for anybody else who is logged in: NotFound.
    """
    if can(person, action, thing):
        return
    agent = thing if isinstance(thing, Agent) else thing.agent if isinstance(thing, Operation) else None
    audit.record_refusal(
        action,
        actor=person if isinstance(person, User) else "anonymous",
        agent=agent,
        operation=thing if isinstance(thing, Operation) else None,
        summary="not allowed",
    )
    only_administrators = POLICY[action] == {Role.ADMINISTRATOR} and person.is_authenticated
    if thing is not None or only_administrators:
        raise NotFound
    if not person.is_authenticated:
        raise Refused("You are not logged in.", remedy="Log in.")
    if not person.is_active:
        raise Refused("Your account is switched off.", remedy="Ask the administrator.")
    if not person.must_change_password:
        raise Refused("Only an administrator may do this.", remedy="Ask the administrator.")
    raise Refused("Your password has to be changed first.", remedy="Change it on the page “Password”.")
