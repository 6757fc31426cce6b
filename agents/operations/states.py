"""The states of agents: which of them a launch may go on with, and the rows that a launch makes and takes back."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from agents.engine import naming
from agents.engine.errors import EngineError
from agents.models import LIVE_STATES, OPEN_STATES, Agent, AgentClass, AgentState, Operation, User
from agents.operations import audit, permissions
from agents.operations.engines import Engines
from agents.operations.errors import Conflict, NotFound
from agents.operations.permissions import Action, Person

logger = logging.getLogger(__name__)

KEY = r"^[0-9a-f]{32}$"
MOST_STATES = 500  # of one person
MOST_CALLS = 200  # of some seconds each, for one deletion


def states_for(person: Person) -> QuerySet[AgentState]:
    """All states of the person by name, each with `in_use`; slice it."""
    if not permissions.can(person, Action.LAUNCH):
        return AgentState.objects.none()
    return _described(AgentState.objects.filter(owner_id=person.pk, key__regex=KEY))


def all_states(person: Person) -> QuerySet[AgentState]:
    """Everybody's, for administrators; none for others."""
    if not permissions.can(person, Action.PURGE_ANY):
        return AgentState.objects.none()
    return _described(AgentState.objects.filter(key__regex=KEY))


def get_state(person: Person, key: str, *, action: Action = Action.VIEW_STATE) -> AgentState:
    """The state with `in_use`, if `person` may do `action` with it; otherwise NotFound."""
    found = _described(AgentState.objects.filter(key=str(key))).first()
    if found is None:
        raise NotFound
    permissions.check(person, action, found)
    return found


def get_states(person: Person, keys: Sequence[str], *, action: Action) -> list[AgentState]:
    """All of them, in order, if `person` may do `action` with each; otherwise NotFound."""
    found = {one.key: one for one in _described(AgentState.objects.filter(key__in=set(keys)))}
    if len(found) != len(set(keys)):
        raise NotFound
    for one in found.values():
        permissions.check(person, action, one)
    return [found[key] for key in dict.fromkeys(keys)]


def offered_for(person: Person) -> QuerySet[AgentState]:
    """What a launch of the person's may go on with now, last used first."""
    free = states_for(person).filter(phase=AgentState.Phase.KEPT).exclude(_live()).exclude(_busy())
    return free.order_by("-last_used_at", "name")


def user_of(state: AgentState) -> Agent | None:
    """The live agent that has the state now."""
    return Agent.objects.filter(agent_state=state, state__in=LIVE_STATES).first()


def problem_of(user: User, key: str, slug: str) -> str:
    """Why a launch of the class `slug` may not go on with the state `key`, or an empty string."""
    state = AgentState.objects.select_related("agent_class").filter(key=key, owner=user).first()
    if state is None:
        return "There is no such state of yours. Choose another one, or a fresh one."
    if state.agent_class.slug != slug:
        return f"{state.name} is of another class. Choose another one, or a fresh one."
    return busy_words(state)


def busy_words(state: AgentState) -> str:
    """Why nothing new may be begun with the state, or an empty string."""
    if state.phase != AgentState.Phase.KEPT:
        return f"{state.name} is {state.phase}."
    if user_of(state) is not None or Agent.objects.filter(name=state.name, state__in=LIVE_STATES).exists():
        return f"{state.name} runs already."
    if busy := Operation.objects.filter(agent_state=state, state__in=OPEN_STATES).first():
        return f"A {busy.kind} of {state.name} is under way."
    return ""


def for_launch(user: User, agent_class: AgentClass, key: str) -> AgentState:
    """The state of a new launch: `key`, or a fresh row; inside the caller's transaction. Raises Conflict."""
    if key:
        if problem := problem_of(user, key, agent_class.slug):
            raise Conflict(problem)
        return AgentState.objects.get(key=key)
    if AgentState.objects.filter(owner=user).count() >= MOST_STATES:
        raise Conflict(f"You have {MOST_STATES} states, the most allowed.", remedy="Purge some first.")
    name = free_name(user.get_username(), agent_class.slug)
    return AgentState.objects.create(name=name, owner=user, agent_class=agent_class)


def free_name(username: str, slug: str) -> str:
    """A name that no live agent and no state has; call inside the transaction."""
    begins = naming.primary_name(username, slug)
    taken = set(Agent.objects.filter(name__startswith=begins, state__in=LIVE_STATES).values_list("name", flat=True))
    taken |= set(AgentState.objects.filter(name__startswith=begins).values_list("name", flat=True))
    return naming.agent_name(username, slug, taken=taken)


def mark_used(agent: Agent) -> None:
    """Its gate was opened; inside the caller's transaction."""
    AgentState.objects.filter(agents=agent).update(last_used_at=timezone.now(), measured_at=None)


def unused_of(agent: Agent, operation: Operation) -> list[str]:
    """The key of the fresh state that the launch was to begin with, as long as nothing used it; else nothing."""
    fresh = isinstance(operation.request, dict) and operation.request.get("fresh") is True
    rows = AgentState.objects.filter(agents=agent, owner_id=agent.owner_id, last_used_at=None)
    return list(rows.filter(key__regex=KEY).values_list("key", flat=True)) if fresh else []


def forget_unused(agent: Agent, operation: Operation) -> AgentState | None:
    """A fresh state whose agent never began: to be purged; inside the caller's transaction."""
    keys = unused_of(agent, operation)
    if not AgentState.objects.filter(key__in=keys, last_used_at=None).update(phase=AgentState.Phase.PURGING):
        return None
    audit.record("state.unused", actor=operation.requested_by, agent=agent, operation=operation, summary=agent.name)
    return AgentState.objects.select_related("owner").get(key=keys[0])


def remove(state: AgentState, engines: Engines) -> bool:
    """The directory, then the row, of a state that is being purged. False when that has to be tried again."""
    try:
        for _ in range(MOST_CALLS):
            if engines.broker.purge_state(state.key).done:
                break
        else:
            return False
    except EngineError as error:
        logger.warning("state %s: not removed yet: %s", state.key, error.message)
        return False
    delete_row(state, actor=None)
    return True


def delete_row(state: AgentState, *, actor: User | None) -> None:
    """After its files; a state that is not being purged stays."""
    with transaction.atomic():
        gone, _ = AgentState.objects.filter(pk=state.pk, phase=AgentState.Phase.PURGING).delete()
        if gone:
            audit.record("state.purged", actor=actor, summary=f"{state.name} of {state.owner.get_username()}")


def _described(rows: QuerySet[AgentState]) -> QuerySet[AgentState]:
    return rows.select_related("owner", "agent_class").annotate(in_use=_live(), is_busy=_busy())


def _live() -> Exists:
    return Exists(Agent.objects.filter(agent_state=OuterRef("pk"), state__in=LIVE_STATES))


def _busy() -> Exists:
    return Exists(Operation.objects.filter(agent_state=OuterRef("pk"), state__in=OPEN_STATES))
