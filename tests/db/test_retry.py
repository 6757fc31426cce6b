"""Trying again what failed: the same once more, checked as for the first time, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from agents.engine.errors import EngineUnreachable
from agents.engine.types import MountProblem
from agents.models import Agent, Operation, User
from agents.operations.errors import Conflict
from agents.operations.exile import Scope, request_exile
from agents.operations.launch import request_launch
from agents.operations.lifecycle import request_cancel, request_eject
from agents.operations.retrying import request_retry
from tests import factories
from tests.db.conftest import World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("gate")]


def failed_launch(world: World, alice: User, **fields: Any) -> Operation:
    request_launch(alice, factories.launch_request(**fields))
    world.engine.errors["start"] = EngineUnreachable("The engine is away.")
    done = world.work()
    world.engine.errors.clear()
    assert (done.state, done.failed_step, done.error) == ("failed", "container", "The engine is away.")
    return done


def test_a_launch_is_repeated_with_a_new_agent(world: World, alice: User) -> None:
    failed = failed_launch(world, alice, cpus=2.0, memory_gb=1.5, pids=300)
    again = request_retry(alice, failed.pk)
    assert world.work().state == "succeeded"
    old, new = failed.agent, again.agent
    assert old is not None
    assert new is not None
    assert new.key != old.key
    assert (Agent.objects.get(pk=old.pk).state, Agent.objects.get(pk=new.pk).state) == ("failed", "running")
    for name in ("name", "runtime", "agent_class", "cpus", "memory", "pids", "workdir"):
        assert getattr(new, name) == getattr(old, name), name
    assert again.request == failed.request


def test_what_was_cancelled_may_be_tried_again(world: World, alice: User) -> None:
    launch = request_launch(alice, factories.launch_request())
    request_cancel(alice, launch.pk)
    assert request_retry(alice, launch.pk).is_open


def test_the_same_rules_hold_as_for_the_form(world: World, alice: User) -> None:
    failed = failed_launch(world, alice)
    world.broker.target.check = lambda user, mounts: [MountProblem(code="missing", message="It is gone.")]
    with pytest.raises(Conflict, match="It is gone"):
        request_retry(alice, failed.pk)
    assert Agent.objects.count() == 1


def test_secrets_were_never_kept_and_have_to_be_typed_again(world: World, alice: User) -> None:
    failed = failed_launch(world, alice, environment="TOKEN=hunter2")
    with pytest.raises(Conflict, match="typed again"):
        request_retry(alice, failed.pk)
    assert Operation.objects.count() == 1


def test_an_eject_is_repeated(world: World, alice: User) -> None:
    request_launch(alice, factories.launch_request())
    world.work()
    eject = request_eject(alice, Agent.objects.get().key)
    world.engine.errors["stop"] = EngineUnreachable("The engine is away.")
    assert world.work().state == "failed"
    world.engine.errors.clear()
    again = request_retry(alice, eject.pk)
    assert (again.kind, again != eject) == ("eject", True)
    assert world.work().state == "succeeded"
    with pytest.raises(Conflict, match="ended already"):
        request_retry(alice, eject.pk)


def test_an_exile_is_repeated(world: World, alice: User) -> None:
    request_launch(alice, factories.launch_request())
    world.work()
    exile = request_exile(alice, scope=Scope.OWN)
    world.engine.errors["stop"] = EngineUnreachable("The engine is away.")
    assert world.work().state == "failed"
    world.engine.errors.clear()
    again = request_retry(alice, exile.pk)
    assert again.request == exile.request
    assert world.work().state == "succeeded"
    assert Agent.objects.get().state == "ended"


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_what_is_open_or_succeeded_is_not(alice: User, state: str) -> None:
    launch = factories.launch(alice, state=state)
    with pytest.raises(Conflict):
        request_retry(alice, launch.pk)
    assert Operation.objects.count() == 1


def test_a_kind_without_a_way_is_said(alice: User) -> None:
    note = Operation.objects.create(kind="reconcile", state="failed", requested_by=alice)
    with pytest.raises(Conflict, match="cannot be repeated"):
        request_retry(alice, note.pk)


def test_a_row_that_cannot_be_read_is_said(world: World, alice: User) -> None:
    failed = failed_launch(world, alice)
    Operation.objects.update(request=["forged"])
    with pytest.raises(Conflict, match="cannot be read"):
        request_retry(alice, failed.pk)
