"""What the runner checks again from the rows themselves: whoever can write to the database must not get more."""

from __future__ import annotations

import re
from collections.abc import Mapping

from agents.engine import naming
from agents.engine.types import MountRequest, StagedMount
from agents.models import LIVE_STATES, Agent, AgentClass, AgentState, AgentStatus, Operation, OperationKind, User
from agents.operations import mounts, permissions
from agents.operations.errors import Refused
from agents.operations.launch import GIB, class_problems, limit_problems
from agents.operations.permissions import Action

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_RUNTIME = re.compile(r"[a-z][a-z0-9-]{0,39}")


def checked_launch(operation: Operation) -> tuple[Agent, User, tuple[MountRequest, ...]]:
    """The agent, its owner and the mounts of a launch, if every rule of `request_launch` still holds for the rows.

    Raises Refused with the first thing that is wrong.
    """
    agent, owner = _agent_and_owner(operation, OperationKind.LAUNCH)
    if not permissions.can(owner, Action.LAUNCH):
        raise Refused(f"{owner.get_username()} may not launch agents (any more).")
    if agent.state != AgentStatus.STARTING:
        raise Refused(f"{agent.name} is {agent.state}: only an agent that starts can be launched.")
    agent_class = agent.agent_class
    if not _SLUG.fullmatch(agent_class.slug) or not _RUNTIME.fullmatch(agent.runtime):
        raise Refused("The agent class or its runtime has an impossible name.")
    if not naming.is_agent_name(agent.name, owner=owner.get_username(), agent_class=agent_class.slug):
        raise Refused("The agent's name does not fit its owner and class.")
    _refuse_first(class_problems(agent_class, slug=agent_class.slug, runtime=agent.runtime))
    _refuse_first(limit_problems(cpus=agent.cpus, memory_gb=agent.memory / GIB, pids=agent.pids))
    wanted = mounts.mounts_of_request(operation.request)
    if wanted is None:
        raise Refused("The mounts of the operation cannot be read.")
    _refuse_first(mounts.mount_list_problems(wanted))
    if agent.workdir != wanted[0].destination:
        raise Refused("The agent's working directory is not its project.")
    return agent, owner, mounts.normalized(wanted)


def checked_state(operation: Operation) -> AgentState:
    """The state that a launch goes on with, or begins: the agent's and its owner's, and nobody else's now.

    Raises Refused.
    """
    agent, state = operation.agent, operation.agent_state
    if agent is None or state is None or agent.agent_state_id != state.pk or not _is_key(state.key):
        raise Refused("The launch has no state, or another one than its agent.")
    if state.owner_id != agent.owner_id or state.agent_class_id != agent.agent_class_id or state.name != agent.name:
        raise Refused("The state belongs to somebody else, to another class or to another agent.")
    if state.phase != AgentState.Phase.KEPT:
        raise Refused(f"The state is {state.phase}.")
    others = Agent.objects.filter(agent_state=state, state__in=LIVE_STATES).exclude(pk=agent.pk)
    if others.exists():
        raise Refused("Another agent runs with this state.")
    return state


def checked_eject(operation: Operation) -> Agent:
    """The agent of an eject that its owner, or the service itself, asked for. Raises Refused."""
    agent = operation.agent
    if agent is None or operation.kind != OperationKind.EJECT or not _is_key(agent.key):
        raise Refused("The operation has no agent that could be ejected.")
    if operation.requested_by_id is not None and operation.requested_by_id != agent.owner_id:
        raise Refused("Only the owner may eject an agent.")
    return agent


def check_staged(wanted: tuple[MountRequest, ...], staged: tuple[StagedMount, ...]) -> None:
    """What the broker pinned is what was asked for, and nothing that is never mounted. Raises Refused."""
    if [(m.source, m.destination, m.mode) for m in wanted] != [(m.source, m.destination, m.mode) for m in staged]:
        raise Refused("The broker prepared other mounts than were asked for.")
    for one in staged:
        if problem := mounts.source_problems(one.real_path):
            raise Refused(problem[0])


def builtin_folder(agent_class: AgentClass) -> str:
    """The folder of docker/classes that a class is built from: only what ships with this release. Raises Refused."""
    kind, _, folder = agent_class.source.partition(":")
    if kind != "builtin" or folder != agent_class.slug or not _SLUG.fullmatch(folder):
        raise Refused(f"The class {agent_class.slug} is not one of this release's own.")
    return folder


def _agent_and_owner(operation: Operation, kind: str) -> tuple[Agent, User]:
    agent, person = operation.agent, operation.requested_by
    if agent is None or person is None or operation.kind != kind or not _is_key(agent.key):
        raise Refused("The operation has no agent or nobody asked for it.")
    if agent.owner_id != person.pk:
        raise Refused("The agent belongs to somebody else than the person who asked.")
    return agent, person


def _is_key(key: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", key) is not None


def _refuse_first(problems: Mapping[str, list[str]]) -> None:
    for messages in problems.values():
        raise Refused(messages[0])
