"""A launch from the request to the running agent, and what is left when any part of it fails: nothing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from agents.engine.errors import (
    BrokerRefused,
    BrokerUnreachable,
    BuildFailed,
    Conflict,
    EngineUnreachable,
)
from agents.engine.fake import BANNER
from agents.engine.fake_broker import DEVICE
from agents.models import Agent, AuditEvent, MountGrant, Operation, OperationLog, OperationStep, User
from agents.operations import selectors
from agents.operations.errors import OperationError
from agents.operations.launch import STEPS, request_launch
from agents.operations.lifecycle import request_cancel, request_eject
from tests import factories
from tests.db.conftest import INODE, NOTHING, World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("gate")]


def steps_of(operation: Operation) -> dict[str, str]:
    return {step.name: step.state for step in OperationStep.objects.filter(operation=operation)}


def test_a_launch_ends_running(world: World, alice: User) -> None:
    operation = request_launch(alice, factories.launch_request())
    assert operation.state == "queued"
    assert list(steps_of(operation)) == list(STEPS)
    done = world.work()
    agent = Agent.objects.get()
    assert (done.state, done.error, agent.state) == ("succeeded", "", "running")
    assert set(steps_of(done).values()) == {"succeeded"}
    assert agent.name == "jackin-alice-agent-smith"
    assert world.objects() == ([agent.name], [f"jackin-{agent.key}"], [])
    assert list(world.streams.held) == [agent.key]
    assert agent.started_at is not None
    assert agent.image.startswith("jackin/agent-smith-shell:")
    assert f"Building {agent.image}" in "\n".join(piece.text for piece in OperationLog.objects.all())


def test_the_grant_says_what_was_really_pinned(world: World, alice: User) -> None:
    request_launch(alice, factories.launch_request(mounts=(factories.mount("/home/alice//project/", mode="ro"),)))
    world.work()
    grant = MountGrant.objects.get()
    assert (grant.source_asked, grant.real_path, grant.mode) == ("/home/alice/project", "/home/alice/project", "ro")
    assert (grant.device, grant.inode) == (DEVICE, str(INODE))
    assert grant.granted_by == alice
    assert "alice-unix" in grant.reason


def test_the_container_gets_only_what_it_should(world: World, alice: User) -> None:
    alice.email = "alice@example.org"
    alice.save()
    request_launch(alice, factories.launch_request(environment="TOKEN=hunter2", memory_gb=2, pids=100, cpus=1))
    world.work()
    (spec,) = world.specs()
    assert spec.argv == ("/jackin/entrypoint", "shell")
    assert "hunter2" not in repr(spec)
    assert spec.env["JACKIN_WORKDIR"] == "/workspace/project"
    assert spec.env["JACKIN_GIT_EMAIL"] == "alice@example.org"
    assert (spec.limits.memory, spec.limits.pids, spec.limits.cpus) == (2 * 2**30, 100, 1)
    assert spec.hostname == spec.name == "jackin-alice-agent-smith"


def test_further_agents_are_clones(world: World, alice: User, bob: User) -> None:
    for person in (alice, alice, bob):
        request_launch(person, factories.launch_request())
        world.work()
    names = {agent.name for agent in Agent.objects.all()}
    assert names == {"jackin-alice-agent-smith", "jackin-alice-agent-smith-clone-1", "jackin-bob-agent-smith"}


def test_people_whose_names_differ_in_little_have_agents_of_different_names() -> None:
    names = [factories.agent(factories.person(name)).name for name in ("j.doe", "J_Doe", "j-doe-clone-1")]
    assert names == [f"jackin-j-doe-agent-smith{n}" for n in ("", "-clone-1", "-clone-2")]


BREAKS: list[tuple[str, str, str, Exception]] = [
    ("identity", "broker", "identity", BrokerRefused("linked to nobody", code="not-linked", remedy="ask root")),
    ("identity", "broker", "identity", BrokerUnreachable("away")),
    ("mounts", "broker", "stage", BrokerRefused("is gone", code="missing", index=0)),
    ("image", "images", "image_for", BuildFailed("apt said no")),
    ("image", "images", "image_for", RuntimeError("hunter2")),
    ("network", "broker", "network_ready", BrokerRefused("no rules", code="firewall")),
    ("network", "engine", "ensure_network", EngineUnreachable("away")),
    ("container", "engine", "create_container", Conflict("name is taken")),
    ("container", "engine", "attach", EngineUnreachable("away")),
    ("container", "engine", "start", EngineUnreachable("away")),
    ("container", "engine", "resize", EngineUnreachable("away")),
    ("verify", "broker", "admit", BrokerRefused("other mounts", code="mismatch")),
]


@pytest.mark.parametrize(("step", "part", "call", "error"), BREAKS, ids=[f"{b[0]}-{b[2]}" for b in BREAKS])
def test_a_failure_leaves_nothing(world: World, alice: User, step: str, part: str, call: str, error: Exception) -> None:
    operation = request_launch(alice, factories.launch_request())
    getattr(world, part).errors[call] = error
    done = world.work()
    agent = Agent.objects.get()
    assert world.objects() == NOTHING
    assert (done.state, done.failed_step, agent.state) == ("failed", step, "failed")
    assert agent.end_reason == done.error
    assert agent.ended_at is not None
    assert "hunter2" not in done.error
    states = steps_of(operation)
    assert states[step] == "failed"
    before = STEPS[: STEPS.index(step)]
    assert [states[name] for name in before] == ["succeeded"] * len(before)
    assert {states[name] for name in STEPS[STEPS.index(step) + 1 :]} <= {"skipped"}
    assert not MountGrant.objects.exists()
    assert not world.streams.held
    assert AuditEvent.objects.filter(action="agent.failed", agent_key=agent.key).exists()
    del getattr(world, part).errors[call]
    request_launch(alice, factories.launch_request())
    assert world.work().state == "succeeded"


def test_a_mount_that_fails_is_named(world: World, alice: User) -> None:
    request_launch(alice, factories.launch_request())
    world.broker.errors["stage"] = BrokerRefused("alice may not read it.", code="not-readable", index=0, remedy="Ask.")
    done = world.work()
    assert done.error == "Mount 1 (/home/alice/project): alice may not read it."
    assert done.remedy == "Ask."


@pytest.mark.parametrize("when", ["start", "admit"])
def test_a_container_that_ends_by_itself_fails_the_launch(world: World, alice: User, when: str) -> None:
    request_launch(alice, factories.launch_request())
    engine = world.engine.target

    def ends(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        (container,) = engine.containers()
        world.end(container.id, exit_code=127)
        return engine.containers()[0] if when == "start" else result

    owner = engine if when == "start" else world.broker.target
    original = getattr(owner, when)
    setattr(owner, when, ends)
    done = world.work()
    assert (done.state, done.failed_step) == ("failed", "container" if when == "start" else "ready")
    assert "exit code 127" in done.error
    assert world.objects() == NOTHING
    assert BANNER.decode().strip() in "".join(piece.text for piece in selectors.operation_log(done))


def test_what_cannot_be_removed_at_once_is_said(world: World, alice: User) -> None:
    request_launch(alice, factories.launch_request())
    world.broker.errors |= {
        "admit": BrokerRefused("other mounts", code="mismatch"),
        "release": BrokerUnreachable("The broker is away."),
    }
    done = world.work()
    assert done.state == "failed"
    assert "Not everything could be removed yet (The broker is away.)" in done.error
    assert world.engine.target.containers() == []


def test_secrets_reach_the_broker_and_nothing_else(
    world: World, alice: User, gate: list[Mapping[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    operation = request_launch(alice, factories.launch_request(environment="TOKEN=hunter2"))
    assert [request.get("secrets") for request in gate if request["op"] == "wake"] == [{"TOKEN": "hunter2"}, None]
    assert operation.secrets_needed
    world.work()
    assert world.broker.target.secrets == {operation.id.hex: {"TOKEN": "hunter2"}}
    assert world.secrets.get(operation.id) is None
    assert "hunter2" not in caplog.text
    assert "hunter2" not in everything_in_the_database()


def everything_in_the_database() -> str:
    from django.apps import apps
    from django.core import serializers

    rows = [row for model in apps.get_models() for row in model._base_manager.all()]
    return serializers.serialize("json", rows)


def test_a_launch_that_cannot_be_leaves_no_secrets(world: World, alice: User, settings: Any) -> None:
    settings.JACKIN_MAX_AGENTS = 0
    with pytest.raises(OperationError):
        request_launch(alice, factories.launch_request(environment="TOKEN=hunter2"))
    assert world.secrets.operations() == []


def test_a_launch_that_is_cancelled_while_it_waits_leaves_no_secrets(world: World, alice: User) -> None:
    operation = request_launch(alice, factories.launch_request(environment="TOKEN=hunter2"))
    assert world.secrets.operations() == [operation.id]
    request_cancel(alice, operation.id)
    assert world.secrets.operations() == []


def test_lost_secrets_fail_the_launch_clearly(world: World, alice: User) -> None:
    operation = request_launch(alice, factories.launch_request(environment="TOKEN=hunter2"))
    world.secrets.drop(operation.id)
    done = world.work()
    assert (done.state, done.failed_step) == ("failed", "identity")
    assert "lost when the runner restarted" in done.error
    assert "Launch again" in done.remedy
    assert world.objects() == NOTHING


def test_a_queued_launch_is_cancelled_at_once(world: World, alice: User) -> None:
    operation = request_launch(alice, factories.launch_request())
    assert request_cancel(alice, operation.id).state == "cancelled"
    assert Agent.objects.get().state == "ended"
    assert not world.workers.work_once()


@pytest.mark.parametrize("call", ["network_ready", "admit"])
def test_a_running_launch_is_cancelled_at_its_next_step(world: World, alice: User, call: str) -> None:
    operation = request_launch(alice, factories.launch_request())
    world.broker.before[call] = lambda: request_eject(alice, Agent.objects.get().key)
    done = world.work()
    agent = Agent.objects.get()
    assert (done.id, done.state, agent.state) == (operation.id, "cancelled", "ended")
    assert world.objects() == NOTHING


def test_a_cancel_just_before_the_end_still_counts(world: World, alice: User) -> None:
    operation = request_launch(alice, factories.launch_request())

    def late() -> None:
        if world.broker.target.admitted:
            Operation.objects.filter(pk=operation.pk).update(cancel_requested=True)

    world.engine.before["container"] = late
    assert world.work().state == "cancelled"
    assert world.objects() == NOTHING


def test_an_unknown_operation_cannot_be_cancelled(alice: User) -> None:
    with pytest.raises(Exception, match="nothing here"):
        request_cancel(alice, uuid.uuid4())
