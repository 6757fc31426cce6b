"""Whoever can write to the database gets no more from the runner than the rules allow."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from agents.models import Agent, AgentClass, Operation, OperationKind, User
from agents.operations.images import prepare_images
from agents.operations.launch import GIB
from tests import factories
from tests.db.conftest import NOTHING, World

pytestmark = pytest.mark.django_db


def mounts(*values: Any) -> dict[str, Any]:
    return {"mounts": list(values)}


GOOD = {"source": "/home/alice/project", "destination": "/workspace/project", "mode": "rw"}

FORGED_REQUESTS: list[Any] = [
    {},
    {"mounts": None},
    mounts(),
    mounts("x"),
    mounts({**GOOD, "source": "/"}),
    mounts({**GOOD, "source": "/etc"}),
    mounts({**GOOD, "source": "/var/lib/jackin-web/keys"}),
    mounts({**GOOD, "source": "/home/../etc"}),
    mounts({**GOOD, "source": 7}),
    mounts({**GOOD, "destination": "/usr/bin"}),
    mounts({**GOOD, "destination": "/run/jackin/gate"}),
    mounts({**GOOD, "destination": "/workspace/elsewhere"}),  # not the agent's workdir
    mounts({**GOOD, "mode": "rwx"}),
    mounts({**GOOD, "staged": "/etc"}),
    mounts(GOOD, GOOD),
    mounts(*[{**GOOD, "destination": f"/data/{n}"} for n in range(40)]),
]


def refused(world: World) -> Operation:
    done = world.work()
    assert (done.state, done.failed_step) == ("failed", "identity"), done.error
    assert world.objects() == NOTHING
    assert "stage" not in world.broker.calls
    assert "create_container" not in world.engine.calls
    return done


@pytest.mark.parametrize("request_", FORGED_REQUESTS)
def test_forged_mounts(world: World, alice: User, request_: Any) -> None:
    operation = factories.launch(alice)
    Operation.objects.filter(pk=operation.pk).update(request=request_)
    refused(world)


def test_a_request_too_deep_to_be_read_fails_and_never_comes_back(world: World, alice: User, bob: User) -> None:
    """SQLite takes JSON of 1,500 levels, Python does not."""
    factories.launch(alice)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE agents_operation SET request = %s", [f'{{"mounts": {"[" * 1500}{"]" * 1500}}}'])
    assert world.workers.work_once()
    ((state, error),) = Operation.objects.values_list("state", "error")
    assert (state, "cannot be read" in error, world.objects()) == ("failed", True, NOTHING)
    factories.launch(bob, mounts=(factories.mount("/home/bob/project"),))
    assert world.work().state == "succeeded"


def test_a_class_too_deep_to_be_read_fails_too(world: World, alice: User) -> None:
    factories.launch(alice)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE agents_agentclass SET runtimes = %s", ["[" * 1500 + "]" * 1500])
    assert world.work().state == "failed"
    assert world.objects() == NOTHING


@pytest.mark.parametrize("fields", [{"source": "builtin:../../etc"}, {"runtimes": 7}, {"runtimes": ["../../x"]}])
def test_a_forged_class_does_not_keep_the_service_from_starting(
    world: World, alice: User, fields: dict[str, Any]
) -> None:
    AgentClass.objects.update(**fields)
    assert list(prepare_images(world.engines, log=lambda _: None)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"cpus": 4096.0},
        {"memory": 2**60},
        {"memory": GIB // 4},
        {"pids": 10**8},
        {"runtime": "bash"},
        {"runtime": "claude; id"},
        {"name": "somebody-elses"},
        {"name": "jackin-bob-agent-smith"},
        {"name": "jackin-alice-agent-smith-clone-0"},
        {"workdir": "/etc"},
        {"key": "../../x"},
        {"state": "running"},
        {"state": "ended"},
    ],
    ids=str,
)
def test_forged_agents(world: World, alice: User, fields: dict[str, Any]) -> None:
    operation = factories.launch(alice)
    Agent.objects.filter(pk=operation.agent_id).update(**fields)
    refused(world)


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "git:https://example.org/x"},
        {"source": "builtin:../../etc"},
        {"source": "builtin:other"},
        {"enabled": False},
        {"runtimes": []},
    ],
    ids=str,
)
def test_forged_classes(world: World, alice: User, fields: dict[str, Any]) -> None:
    factories.launch(alice)
    AgentClass.objects.update(**fields)
    done = world.work()
    assert done.state == "failed"
    assert world.objects() == NOTHING
    assert "create_container" not in world.engine.calls


def test_an_agent_of_somebody_else(world: World, alice: User, bob: User) -> None:
    operation = factories.launch(alice)
    Operation.objects.filter(pk=operation.pk).update(requested_by=bob)
    Agent.objects.update(name="jackin-bob-agent-smith")
    assert "belongs to somebody else" in refused(world).error


def test_nobody_asked(world: World, alice: User) -> None:
    operation = factories.launch(alice)
    Operation.objects.filter(pk=operation.pk).update(requested_by=None)
    refused(world)


@pytest.mark.parametrize("fields", [{"is_active": False}, {"must_change_password": True}])
def test_a_person_who_may_not_any_more(world: World, alice: User, fields: dict[str, Any]) -> None:
    factories.launch(alice)
    User.objects.filter(pk=alice.pk).update(**fields)
    assert "may not launch" in refused(world).error


def test_a_forged_launch_takes_nothing_from_a_running_agent(world: World, alice: User, bob: User) -> None:
    factories.launch(alice)
    world.work()
    before = world.objects()
    running = Agent.objects.get()
    Operation.objects.create(kind=OperationKind.LAUNCH, agent=running, requested_by=bob, request=mounts(GOOD))
    assert world.work().state == "failed"
    assert world.objects() == before
    assert running.key in world.streams.held
    running.refresh_from_db()
    assert running.state == "running"
    assert running.grants.count() == 1


def test_a_forged_eject(world: World, alice: User, bob: User) -> None:
    factories.launch(alice)
    world.work()
    before = world.objects()
    Operation.objects.create(kind=OperationKind.EJECT, agent=Agent.objects.get(), requested_by=bob)
    done = world.work()
    assert done.state == "failed"
    assert "Only the owner" in done.error
    assert world.objects() == before


def test_a_forged_container_id_leads_nowhere(world: World, alice: User, bob: User) -> None:
    from agents.operations.lifecycle import request_eject

    factories.launch(alice)
    world.work()
    mine = factories.launch(bob, mounts=(factories.mount("/home/bob/project"),))
    world.work()
    (alices,) = [one for one in world.engine.target.containers() if "alice" in one.name]
    Agent.objects.filter(pk=mine.agent_id).update(container_id=alices.id)
    request_eject(bob, Agent.objects.get(pk=mine.agent_id).key)
    assert world.work().state == "succeeded"
    assert [one.name for one in world.engine.target.containers()] == ["jackin-alice-agent-smith"]


def test_a_broker_that_prepares_other_things_is_not_believed(world: World, alice: User) -> None:
    import dataclasses

    factories.launch(alice)
    stage = world.broker.target.stage

    def other(*args: Any, **kwargs: Any) -> Any:
        staging = stage(*args, **kwargs)
        return dataclasses.replace(
            staging, mounts=tuple(dataclasses.replace(one, real_path="/etc") for one in staging.mounts)
        )

    world.broker.target.stage = other
    done = world.work()
    assert (done.state, done.failed_step) == ("failed", "mounts")
    assert world.objects() == NOTHING
