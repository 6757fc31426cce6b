"""Doing an exile: agent after agent, several at a time, each with a step and an end of its own."""

from __future__ import annotations

import logging
import time

from django.db import transaction
from django.utils import timezone

from agents.engine.errors import EngineError
from agents.models import (
    LIVE_STATES,
    OPEN_STATES,
    Agent,
    AgentStatus,
    Operation,
    OperationKind,
    OperationState,
    OperationStep,
    User,
)
from agents.operations import cleanup, exile, leases
from agents.operations.endings import fail_operation
from agents.operations.engines import Engines
from agents.operations.errors import Cancelled, Conflict, OperationError, Unavailable
from agents.operations.leases import LeaseLost
from agents.operations.patience import MOST_SECONDS, TICK, Call
from agents.operations.progress import Progress, explain
from agents.operations.streams import StreamSink
from agents.operations.transitions import move_agent, move_operation

logger = logging.getLogger(__name__)

GRACE = 10  # seconds between the hang-up and SIGKILL
AT_ONCE = 8  # each may take its whole grace
PATIENCE = 20.0  # seconds for launches under way to stop by themselves
MOST_NAMED = 10

State = OperationStep.State


def run_exile(operation: Operation, *, engines: Engines, streams: StreamSink, actor: User | str | None = None) -> None:
    """Work on a taken exile until each agent has ended or could not be; replayable at any point. Raises LeaseLost.

    What could not be ended stays EJECTING, and reconcile asks for an eject of it. Cancelled, the rest is left alone.
    """
    progress = Progress(operation)
    try:
        if operation.attempt > leases.MOST_ATTEMPTS:
            raise Unavailable(f"It was begun {leases.MOST_ATTEMPTS} times and never came to an end.")
        _Exile(operation, engines=engines, streams=streams, progress=progress, actor=actor).run()
    except LeaseLost:
        raise
    except Exception as error:
        if not isinstance(error, OperationError | EngineError):
            logger.exception("operation %s: exile failed", operation.id.hex)
        fail_operation(operation, error, progress)


def end_agent(engines: Engines, *, key: str, launches: list[str]) -> list[str]:
    """Stop with grace, then remove everything of the agent; what could not be. Touches no database."""
    try:
        for container in cleanup.containers_of(engines, key):
            engines.engine.stop(container.id, grace=GRACE)
    except EngineError as error:
        return [error.message]
    return cleanup.remove_objects(engines, key=key, launches=launches)


class _Exile:
    def __init__(
        self,
        operation: Operation,
        *,
        engines: Engines,
        streams: StreamSink,
        progress: Progress,
        actor: User | str | None,
    ) -> None:
        self.operation = operation
        self.engines = engines
        self.streams = streams
        self.progress = progress
        self.actor = operation.requested_by or actor
        self.under_way: dict[Agent, tuple[Call, float]] = {}
        self.patience = time.monotonic() + PATIENCE

    def run(self) -> None:
        waiting = self._prepare()
        stopped = False
        while self.under_way or (waiting and not stopped):
            stopped = stopped or self._stopped()
            if not stopped:
                waiting = self._begin_some(waiting)
            for agent, (call, until) in list(self.under_way.items()):
                if call.over.wait(TICK / max(1, len(self.under_way))):
                    del self.under_way[agent]
                    self._finish(agent, call)
                elif time.monotonic() > until and call.give_up():
                    del self.under_way[agent]
                    self._mark(agent, State.FAILED, message="The engine does not answer.")
            if not self.under_way and waiting and not stopped:
                time.sleep(TICK)
        self._end(left_alone=len(waiting))

    def _prepare(self) -> list[Agent]:
        """The agents to end; those that an earlier attempt has ended, or somebody else, are done."""
        agents = list(exile.checked_exile(self.operation))
        with transaction.atomic(durable=True):
            self._fence()
            steps = OperationStep.objects.filter(operation=self.operation)
            known = set(steps.values_list("name", flat=True))
            OperationStep.objects.bulk_create(
                OperationStep(operation=self.operation, position=len(known) + number, name=agent.name)
                for number, agent in enumerate(one for one in agents if one.name not in known)
            )
            gone = steps.exclude(name__in=[agent.name for agent in agents]).exclude(state=State.SUCCEEDED)
            gone.update(state=State.SUCCEEDED, finished_at=timezone.now())
            exile.cancel_launches(agents, actor=self.actor)
        return agents

    def _stopped(self) -> bool:
        if not self.progress.cancelled():
            return False
        try:
            self.progress.check()
        except Cancelled:
            return True
        return False

    def _begin_some(self, waiting: list[Agent]) -> list[Agent]:
        """Begin with as many as may be under way; those whose launch still stops by itself come later."""
        states = dict(Agent.objects.filter(pk__in=[a.pk for a in waiting]).values_list("pk", "state"))
        left: list[Agent] = []
        for agent in waiting:
            state = states.get(agent.pk, AgentStatus.ENDED)
            if state not in LIVE_STATES:
                self._mark(agent, State.SUCCEEDED)
            elif len(self.under_way) >= AT_ONCE or (state == AgentStatus.STARTING and self._stops_by_itself(agent)):
                left.append(agent)
            else:
                self._begin(agent)
        return left

    def _stops_by_itself(self, agent: Agent) -> bool:
        if time.monotonic() > self.patience:
            return False
        launch = Operation.objects.filter(agent=agent, kind=OperationKind.LAUNCH, state=OperationState.RUNNING)
        return any(leases.is_alive(token) for token in launch.values_list("lease_owner", flat=True))

    def _begin(self, agent: Agent) -> None:
        self._mark(agent, State.RUNNING)
        try:
            with transaction.atomic(durable=True):
                self._fence()
                agent.refresh_from_db(fields=["state"])
                if agent.state == AgentStatus.RUNNING:
                    move_agent(agent, AgentStatus.EJECTING, actor=self.actor, operation=self.operation)
        except Conflict:
            logger.info("agent %s: moved by somebody else meanwhile", agent.key)
        key, launches, engines = agent.key, _launches_of(agent), self.engines
        call = Call(name=f"exile {key}")
        call.start(lambda: end_agent(engines, key=key, launches=launches), in_place=engines.in_place)
        self.under_way[agent] = (call, time.monotonic() + MOST_SECONDS)

    def _finish(self, agent: Agent, call: Call) -> None:
        if call.error is not None and not isinstance(call.error, Exception):
            raise call.error
        if call.error is not None:
            logger.error("agent %s: not ended (%s)", agent.key, type(call.error).__name__)
        left = [explain(call.error)] if call.error is not None else call.answer
        if left:
            self._mark(agent, State.FAILED, message=" ".join(left))
            return
        reason = self._reason()
        self.streams.drop(agent.key, reason)
        with transaction.atomic(durable=True):
            self._fence()
            for other in Operation.objects.filter(agent=agent, state__in=OPEN_STATES):
                move_operation(other, OperationState.CANCELLED, actor=self.actor, error=f"The agent was {reason}.")
            # Whoever saw the container go may have been faster.
            if Agent.objects.filter(pk=agent.pk, state__in=LIVE_STATES).exists():
                move_agent(agent, AgentStatus.ENDED, actor=self.actor, operation=self.operation, reason=reason)
            self._update(agent, state=State.SUCCEEDED, finished_at=timezone.now(), message="")

    def _reason(self) -> str:
        person = self.operation.requested_by
        return f"ejected by {person.get_username()}" if person else "ejected when all were"

    def _end(self, *, left_alone: int) -> None:
        failed = list(
            OperationStep.objects.filter(operation=self.operation, state=State.FAILED).values_list("name", "message")
        )
        total = OperationStep.objects.filter(operation=self.operation).count()
        fields: dict[str, str] = {}
        state = OperationState.SUCCEEDED
        if failed:
            state = OperationState.FAILED
            named = " ".join(f"{name}: {message}" for name, message in failed[:MOST_NAMED])
            more = f" … and {len(failed) - MOST_NAMED} more." if len(failed) > MOST_NAMED else ""
            fields = {
                "error": f"{len(failed)} of {total} agents could not be ejected. {named}{more}",
                "remedy": "The service tries again each minute; its output tells the administrator more.",
                "failed_step": failed[0][0],
            }
        elif left_alone:
            state = OperationState.CANCELLED
            fields = {"error": f"It was cancelled: {left_alone} of {total} agents were left alone."}
        with transaction.atomic(durable=True):
            mine = {"lease_owner": self.operation.lease_owner}
            if not move_operation(self.operation, state, actor=self.actor, only_if=mine, **fields):
                raise LeaseLost
            self.progress.close_steps(running=State.FAILED)

    def _mark(self, agent: Agent, state: str, *, message: str = "") -> None:
        now = timezone.now()
        times = {"started_at": now, "finished_at": None} if state == State.RUNNING else {"finished_at": now}
        with transaction.atomic():
            self._fence()
            self._update(agent, state=state, message=message, **times)

    def _update(self, agent: Agent, **fields: object) -> None:
        OperationStep.objects.filter(operation=self.operation, name=agent.name).update(**fields)

    def _fence(self) -> None:
        leases.pulse(self.operation.lease_owner)
        if not leases.holds(self.operation):
            raise LeaseLost


def _launches_of(agent: Agent) -> list[str]:
    return [found.hex for found in agent.operations.filter(kind=OperationKind.LAUNCH).values_list("id", flat=True)]


def failures_of(operation: Operation) -> list[str]:
    """A sentence for each agent that could not be ended."""
    failed = operation.steps.filter(state=State.FAILED).values_list("name", "message")
    return [f"{name}: {message}" for name, message in failed]
