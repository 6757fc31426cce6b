"""Asking again for what failed or was cancelled: a new operation, checked as if it were asked for the first time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Final

from agents.models import Operation, OperationKind, OperationState, User
from agents.operations import selectors
from agents.operations.errors import Conflict, Invalid
from agents.operations.exile import asked_for, request_exile
from agents.operations.launch import GIB, LaunchRequest, request_launch
from agents.operations.lifecycle import request_eject
from agents.operations.mounts import mounts_of_request
from agents.operations.permissions import Action

RETRIED_STATES = (OperationState.FAILED, OperationState.CANCELLED)


def request_retry(user: User, operation_id: uuid.UUID | str) -> Operation:
    """Ask for the same once more; returns the new operation. A launch gets a new agent.

    Raises NotFound; Conflict for what succeeded, is open, cannot be repeated, or needs secrets: those were never kept;
    and whatever the first request may raise.
    """
    operation = selectors.get_operation(user, operation_id, action=Action.RETRY_OPERATION)
    if operation.is_open:
        raise Conflict("It is under way.", remedy="Wait for its end, or cancel it.")
    if operation.state not in RETRIED_STATES:
        raise Conflict("It has succeeded: there is nothing to try again.")
    if operation.kind not in RETRIES:
        raise Conflict(f"“{operation.kind}” cannot be repeated from here.", remedy="Start it where it was started.")
    return RETRIES[operation.kind](user, operation)


def can_retry(operation: Operation) -> bool:
    """For the page: whether a button for it makes sense."""
    return operation.state in RETRIED_STATES and operation.kind in RETRIES


def needs_form(operation: Operation) -> bool:
    """Whether something has to be typed again first: the values of a launch's environment are never kept."""
    return operation.kind == OperationKind.LAUNCH and operation.secrets_needed


def launch_request_of(operation: Operation) -> LaunchRequest:
    """The request that an earlier launch was made from. Raises Conflict when its rows cannot be read (any more)."""
    agent, mounts = operation.agent, mounts_of_request(operation.request)
    if agent is None or mounts is None:
        raise Conflict("What was asked for cannot be read.", remedy="Fill in the launch form.")
    return LaunchRequest(
        class_slug=agent.agent_class.slug,
        runtime=agent.runtime,
        mounts=mounts,
        cpus=agent.cpus,
        memory_gb=agent.memory / GIB,
        pids=agent.pids,
        state=state_again(operation),
    )


def state_again(operation: Operation) -> str:
    """The state that was to be gone on with; a fresh one that came to nothing is fresh again."""
    fresh = operation.request.get("fresh") is True
    return operation.agent_state.key if operation.agent_state is not None and not fresh else ""


def _launch(user: User, operation: Operation) -> Operation:
    if needs_form(operation):
        raise Conflict(
            "The values of its environment were never kept: they have to be typed again.",
            remedy="Use “Change and launch again”.",
        )
    try:
        return request_launch(user, launch_request_of(operation))
    except Invalid as invalid:  # there is no form here that shows each message at its field
        raise Conflict(invalid.message, remedy="Use “Change and launch again”.") from invalid


def _eject(user: User, operation: Operation) -> Operation:
    if operation.agent is None:
        raise Conflict("There is no agent any more.")
    return request_eject(user, operation.agent.key)


def _exile(user: User, operation: Operation) -> Operation:
    scope, person = asked_for(operation)
    return request_exile(user, scope=scope, person=person)


RETRIES: Final[Mapping[str, Callable[[User, Operation], Operation]]] = {
    OperationKind.LAUNCH: _launch,
    OperationKind.EJECT: _eject,
    OperationKind.EXILE: _exile,
}
