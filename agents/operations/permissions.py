"""Who may do what: one table. `check` raises, `can` answers a template."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from django.contrib.auth.models import AnonymousUser

from agents.models import Agent, Operation, User
from agents.operations import audit
from agents.operations.errors import NotFound, Refused

Person = User | AnonymousUser
Thing = Agent | Operation


class Action(enum.StrEnum):
    LAUNCH = "agent.launch"
    CHECK_MOUNTS = "mounts.check"
    VIEW_AGENT = "agent.view"
    ATTACH_TERMINAL = "terminal.attach"
    EJECT_AGENT = "agent.eject"
    VIEW_OPERATION = "operation.view"
    CANCEL_OPERATION = "operation.cancel"
    LINK_ACCOUNT = "account.prove"
    MANAGE_PEOPLE = "people.manage"
    CHANGE_OWN_PASSWORD = "password.change"  # noqa: S105 - the name of an action


class Role(enum.StrEnum):
    LOGGED_IN = "logged in"  # an active account, even one that has to change its password first
    PERSON = "person"  # an active account that may work
    OWNER = "owner"  # a person, of a thing of their own
    ADMINISTRATOR = "administrator"  # a person who looks after people and what they leave behind


POLICY: Final[Mapping[Action, frozenset[Role]]] = {
    Action.LAUNCH: frozenset({Role.PERSON}),
    Action.CHECK_MOUNTS: frozenset({Role.PERSON}),
    Action.VIEW_AGENT: frozenset({Role.OWNER}),
    Action.ATTACH_TERMINAL: frozenset({Role.OWNER}),
    Action.EJECT_AGENT: frozenset({Role.OWNER}),
    Action.VIEW_OPERATION: frozenset({Role.OWNER}),
    Action.CANCEL_OPERATION: frozenset({Role.OWNER}),
    Action.LINK_ACCOUNT: frozenset({Role.PERSON}),
    Action.MANAGE_PEOPLE: frozenset({Role.ADMINISTRATOR}),
    Action.CHANGE_OWN_PASSWORD: frozenset({Role.LOGGED_IN}),
}


def roles_of(person: Person, thing: Thing | None = None) -> frozenset[Role]:
    """An administrator is no owner: other people's agents and terminals stay theirs."""
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
    return thing.owner_id if isinstance(thing, Agent) else thing.requested_by_id


def can(person: Person, action: Action, thing: Thing | None = None) -> bool:
    return bool(POLICY[action] & roles_of(person, thing))


def check(person: Person, action: Action, thing: Thing | None = None) -> None:
    """Return if allowed. Otherwise write the refusal down and raise NotFound for a thing, Refused without one.

    What is for administrators only does not exist for anybody else who is logged in: NotFound.
    """
    if can(person, action, thing):
        return
    agent = thing if isinstance(thing, Agent) else thing.agent if thing is not None else None
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
    raise Refused("Your password has to be changed first.", remedy="Change it on the page “Password”.")
