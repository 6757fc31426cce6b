"""Asking for a launch: policy, every field looked at, then one row that the runner works on."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator, Mapping

from django.conf import settings
from django.db import IntegrityError, transaction

from agents.engine.types import MountRequest
from agents.models import LIVE_STATES, Agent, AgentClass, Operation, OperationKind, OperationStep, User
from agents.operations import audit, gateway, mounts, permissions, selectors, states
from agents.operations.environment import parse_environment
from agents.operations.errors import Conflict, Invalid, Refused, Unavailable
from agents.operations.permissions import Action

STEPS = ("identity", "state", "mounts", "image", "network", "container", "verify", "ready")
LEAST_CPUS = 0.1
LEAST_MEMORY_GB = 0.5
LEAST_PIDS = 64
GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """A launch as asked for. The first mount is the project; `environment` are NAME=value lines, never stored.

    `state` is the key of the state to go on with, or empty for a fresh one.
    """

    class_slug: str
    runtime: str
    mounts: tuple[MountRequest, ...]
    cpus: float
    memory_gb: float
    pids: int
    state: str = ""
    environment: str = dataclasses.field(default="", repr=False)


def request_launch(user: User, request: LaunchRequest) -> Operation:
    """Check everything and queue the launch; returns at once.

    Raises Refused, Invalid (every wrong field at once), Conflict, Unavailable. With an error nothing is left.
    """
    permissions.check(user, Action.LAUNCH)
    secrets = _validate(user, request)
    wanted = mounts.normalized(request.mounts)
    try:
        _check_room(user)  # before the runner keeps secrets for a launch that cannot be
    except Conflict as conflict:
        audit.record_refusal(Action.LAUNCH, actor=user, summary=conflict.message)
        raise
    operation_id = uuid.uuid4()
    # Before the row exists: no worker can find the operation without its secrets.
    if secrets:
        gateway.wake(operation_id, secrets=secrets)
    operation = _create(user, request, wanted, operation_id, secrets_needed=bool(secrets))
    with contextlib.suppress(Unavailable):  # it looks for work by itself every other second
        gateway.wake(operation_id)
    return operation


def limit_problems(*, cpus: float, memory_gb: float, pids: int) -> dict[str, list[str]]:
    """What is wrong with the limits, for this machine."""
    machine = selectors.machine_limits()
    errors: dict[str, list[str]] = {}
    if not LEAST_CPUS <= cpus <= machine.cpus:  # false for NaN, too
        errors["cpus"] = [f"{cpus:g} processors are not possible: this machine allows {LEAST_CPUS} to {machine.cpus}."]
    if not LEAST_MEMORY_GB <= memory_gb <= machine.memory_gb:
        errors["memory_gb"] = [
            f"{memory_gb:g} GiB are not possible: this machine allows {LEAST_MEMORY_GB} to {machine.memory_gb:g}."
        ]
    if not LEAST_PIDS <= pids <= machine.pids:
        errors["pids"] = [f"{pids} processes are not possible: this machine allows {LEAST_PIDS} to {machine.pids}."]
    return errors


def class_problems(agent_class: AgentClass | None, *, slug: str, runtime: str) -> dict[str, list[str]]:
    """What is wrong with the choice of class and runtime."""
    if agent_class is None or not agent_class.enabled:
        known = ", ".join(AgentClass.objects.filter(enabled=True).values_list("slug", flat=True)[:20])
        return {
            "class_slug": [f"There is no agent class “{mounts.shown(slug)}”. Choose one of: {known or 'none yet'}."]
        }
    if runtime not in agent_class.offered:
        offered = ", ".join(agent_class.offered)
        return {"runtime": [f"{slug} has no runtime “{mounts.shown(runtime)}”. Choose one of: {offered}."]}
    return {}


def _validate(user: User, request: LaunchRequest) -> Mapping[str, str]:
    """The parsed secrets. Raises Invalid with all that is wrong, and writes the refusal down."""
    agent_class = AgentClass.objects.filter(slug=request.class_slug).first()
    errors = class_problems(agent_class, slug=request.class_slug, runtime=request.runtime)
    errors |= limit_problems(cpus=request.cpus, memory_gb=request.memory_gb, pids=request.pids)
    if request.state and (problem := states.problem_of(user, request.state, request.class_slug)):
        errors["state"] = [problem]
    secrets: Mapping[str, str] = {}
    try:
        secrets = parse_environment(request.environment)
    except Invalid as invalid:
        errors |= invalid.errors
    wrong_mounts = mounts.mount_list_problems(request.mounts) or _broker_problems(user, request)
    errors |= wrong_mounts
    if errors:
        audit.record_refusal(Action.LAUNCH, actor=user, summary="; ".join(f"{f}: {m[0]}" for f, m in errors.items()))
        raise Invalid(errors)
    return secrets


def _broker_problems(user: User, request: LaunchRequest) -> mounts.Errors:
    try:
        found = gateway.check_mounts(user.get_username(), mounts.normalized(request.mounts))
    except Refused as refused:  # no linked account, say: nothing in the form is wrong, but nothing of it may be lost
        return {"": [f"{refused.message} {refused.remedy}".strip()]}
    return mounts.broker_problems(found)


def _check_room(user: User) -> None:
    """Raises Conflict when the person has as many agents as are allowed."""
    live = Agent.objects.filter(owner=user, state__in=LIVE_STATES).count()
    if live >= settings.JACKIN_MAX_AGENTS:
        raise Conflict(f"You have {live} agents already, the most allowed.", remedy="Eject one first.")


def _create(
    user: User,
    request: LaunchRequest,
    wanted: tuple[MountRequest, ...],
    operation_id: uuid.UUID,
    *,
    secrets_needed: bool,
) -> Operation:
    with _queueing():
        _check_room(user)
        agent_class = AgentClass.objects.get(slug=request.class_slug)
        state = states.for_launch(user, agent_class, request.state)
        agent = Agent.objects.create(
            name=state.name,
            owner=user,
            agent_class=agent_class,
            agent_state=state,
            runtime=request.runtime,
            workdir=wanted[0].destination,
            cpus=request.cpus,
            memory=int(request.memory_gb * GIB),
            pids=request.pids,
        )
        operation = Operation.objects.create(
            id=operation_id,
            kind=OperationKind.LAUNCH,
            agent=agent,
            requested_by=user,
            agent_state=state,
            request={"mounts": [dataclasses.asdict(one) for one in wanted], "fresh": not request.state},
            secrets_needed=secrets_needed,
        )
        add_steps(operation, STEPS)
        audit.record(
            Action.LAUNCH,
            actor=user,
            agent=agent,
            operation=operation,
            summary=f"{agent.name}, {request.runtime}, " + ", ".join(f"{m.source} ({m.mode})" for m in wanted),
        )
    return operation


@contextlib.contextmanager
def _queueing() -> Iterator[None]:
    """One transaction; whoever was faster with the same name or state makes it a Conflict."""
    try:
        with transaction.atomic(durable=True):
            yield
    except IntegrityError:
        raise Conflict("Something else was launched with this state meanwhile.", remedy="Look again.") from None


def add_steps(operation: Operation, names: tuple[str, ...]) -> None:
    OperationStep.objects.bulk_create(
        OperationStep(operation=operation, position=position, name=name) for position, name in enumerate(names)
    )
