"""Ending what runs for a person who may not go on: asked for by the service itself, with the reason."""

from __future__ import annotations

from agents.models import LIVE_STATES, OPEN_STATES, Agent, AgentStatus, Operation, OperationKind, OperationState, User
from agents.operations import audit, states
from agents.operations.lifecycle import queue_eject
from agents.operations.permissions import Action
from agents.operations.transitions import move_agent, move_operation


def end_agents(owner: User, *, because: str) -> int:
    """Queue the end of every live agent of `owner`; inside the caller's transaction. Idempotent; returns how many.

    `because` is a sentence for the owner. A launch under way is cancelled: it takes away what it had made.
    """
    ending = 0
    for agent in Agent.objects.filter(owner=owner, state__in=LIVE_STATES):
        ending += _end(agent, because)
    return ending


def _end(agent: Agent, because: str) -> bool:
    if agent.state == AgentStatus.RUNNING:
        operation = queue_eject(agent, requested_by=None)
        operation.request = {"because": because}
        operation.save(update_fields=["request"])
        return True
    if agent.state == AgentStatus.STARTING:
        return _cancel_launch(agent, because)
    return False  # EJECTING: somebody works on it, or reconcile sees to it


def _cancel_launch(agent: Agent, because: str) -> bool:
    launch = Operation.objects.filter(agent=agent, kind=OperationKind.LAUNCH, state__in=OPEN_STATES).first()
    if launch is None:
        return False  # reconcile fails a launch that nobody works on
    queued = {"state": OperationState.QUEUED}
    if move_operation(
        launch, OperationState.CANCELLED, actor=None, only_if=queued, cancel_requested=True, error=because
    ):
        move_agent(agent, AgentStatus.ENDED, actor=None, operation=launch, reason=because)
        states.forget_unused(agent, launch)
        return True
    running = Operation.objects.filter(pk=launch.pk, state=OperationState.RUNNING, cancel_requested=False)
    if not running.update(cancel_requested=True):
        return False
    audit.record(Action.CANCEL_OPERATION, actor=None, agent=agent, operation=launch, summary=because)
    return True
