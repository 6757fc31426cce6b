"""Rows for tests, made as the operations would make them."""

from __future__ import annotations

import dataclasses
from typing import Any

from agents.engine.types import MountRequest
from agents.models import Agent, AgentClass, AgentState, AgentStatus, Operation, OperationKind, StateSnapshot, User
from agents.operations.launch import GIB, STEPS, LaunchRequest, add_steps
from agents.operations.states import free_name

PASSWORD = "correct horse battery staple"


def person(username: str, **fields: Any) -> User:
    user = User(username=username, **fields)
    user.set_password(PASSWORD)
    user.save()
    return user


def agent_smith() -> AgentClass:
    """The built-in class; tests with real transactions lose the row that the migration made."""
    found, _ = AgentClass.objects.get_or_create(
        slug="agent-smith",
        defaults={
            "title": "Agent Smith",
            "builtin": True,
            "source": "builtin:agent-smith",
            "runtimes": ["claude", "shell"],
        },
    )
    return found


def mount(
    source: str = "/home/alice/project", destination: str = "/workspace/project", mode: str = "rw"
) -> MountRequest:
    return MountRequest(source=source, destination=destination, mode=mode)  # type: ignore[arg-type]


def launch_request(**fields: Any) -> LaunchRequest:
    values: dict[str, Any] = {
        "class_slug": "agent-smith",
        "runtime": "shell",
        "mounts": (mount(),),
        "cpus": 1.0,
        "memory_gb": 1.0,
        "pids": 512,
    }
    return LaunchRequest(**(values | fields))


def agent(owner: User, **fields: Any) -> Agent:
    """A running agent, unless `state` says otherwise."""
    values: dict[str, Any] = {
        "name": free_name(owner.username, "agent-smith"),
        "owner": owner,
        "agent_class": agent_smith(),
        "runtime": "shell",
        "state": AgentStatus.RUNNING,
        "workdir": "/workspace/project",
        "cpus": 1.0,
        "memory": GIB,
        "pids": 512,
    }
    return Agent.objects.create(**(values | fields))


def launch(owner: User, *, mounts: tuple[MountRequest, ...] | None = None, **fields: Any) -> Operation:
    """A queued launch with its starting agent."""
    starting = fields.pop("agent", None) or agent(owner, state=AgentStatus.STARTING)
    if starting.agent_state is None:
        starting.agent_state = AgentState.objects.filter(name=starting.name).first() or state(owner, name=starting.name)
        starting.save(update_fields=["agent_state"])
    wanted = mounts if mounts is not None else (mount(),)
    operation = Operation.objects.create(
        kind=OperationKind.LAUNCH,
        agent=starting,
        requested_by=owner,
        agent_state=fields.pop("agent_state", starting.agent_state),
        request={"mounts": [dataclasses.asdict(one) for one in wanted], "fresh": True},
        **fields,
    )
    add_steps(operation, STEPS)
    return operation


def state(owner: User, **fields: Any) -> AgentState:
    """A kept state, as a launch makes it."""
    number = AgentState.objects.count()
    values: dict[str, Any] = {
        "name": f"jackin-{owner.username}-agent-smith" + (f"-clone-{number}" if number else ""),
        "owner": owner,
        "agent_class": agent_smith(),
    }
    return AgentState.objects.create(**(values | fields))


def snapshot(of: AgentState, **fields: Any) -> StateSnapshot:
    """A kept snapshot of a state; there is no file behind it."""
    values: dict[str, Any] = {
        "state": of,
        "state_key": of.key,
        "state_name": of.name,
        "owner": of.owner,
        "agent_class": of.agent_class,
        "phase": StateSnapshot.Phase.KEPT,
        "size": 1000,
        "content_size": 5000,
        "entries": 7,
        "sha256": "0" * 64,
    }
    return StateSnapshot.objects.create(**(values | fields))
