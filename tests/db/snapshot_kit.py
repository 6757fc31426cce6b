"""A state with its content, an agent that has it, and the work of a runner that is killed."""

from __future__ import annotations

import pytest

from agents.models import AgentState, Operation, StateSnapshot, User
from agents.operations import snapshots
from tests import factories
from tests.db.conftest import World
from tests.support.engine_kit import FakeKit


@pytest.fixture
def state(alice: User, world: World) -> AgentState:
    made = factories.state(alice)
    world.broker.target.states["alice", made.key] = b"first"
    return made


def running(world: World, state: AgentState) -> str:
    """An agent with the state, and its container; returns the container's id."""
    agent = factories.agent(state.owner, agent_state=state)
    engine = world.engine.target
    engine.images["image"] = {}
    network = f"jackin-{agent.key}"
    engine.ensure_network(network, agent=agent.key, operation="op")
    spec = FakeKit().launch_spec(image="image", name=agent.name, agent=agent.key, network=network)
    container = engine.create_container(spec)
    engine.start(container)
    return str(container)


def taken(world: World, state: AgentState, **options: bool) -> StateSnapshot:
    operation = snapshots.request_snapshot(state.owner, state.key, **options)
    done = world.work()
    assert (done.pk, done.state) == (operation.pk, "succeeded"), done.error
    assert done.snapshot is not None
    return done.snapshot


def status(world: World, container: str) -> str:
    return str(world.engine.target.container(container).status)


def killed_at(world: World, call: str, *, target: str = "broker") -> None:
    """Work until `call`, and end there as a killed process would: nothing is written any more."""

    class Killed(BaseException):
        pass

    part = getattr(world, target)

    def kill() -> None:
        raise Killed

    part.before[call] = kill
    with pytest.raises(Killed):
        world.workers.work_once()
    part.before.clear()
    Operation.objects.filter(state="running").update(lease_owner="1.1.dead")
