"""Purges that are forged, refused, interrupted or meet a running agent: what goes, and what must stay."""

from __future__ import annotations

import pytest
from django.utils import timezone

from agents.engine.errors import BrokerUnreachable
from agents.models import AgentState, Operation, User
from agents.operations import purging
from agents.operations.launch import request_launch
from agents.operations.reconcile import reconcile
from tests import factories
from tests.db.conftest import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("gate")]


def kept(world: World, owner: User, **fields: object) -> AgentState:
    state = factories.state(owner, last_used_at=timezone.now(), **fields)
    world.broker.target.states[owner.username, state.key] = b"content"
    return state


def look(world: World) -> None:
    reconcile(world.engines, streams=world.streams)


def there(world: World, state: AgentState) -> bool:
    row, files = AgentState.objects.filter(pk=state.pk).exists(), state.key in world.broker.target.list_states().kept
    assert row == files, "never a row without files, or files without a row"
    return row


def test_a_refused_purge_is_not_carried_out_afterwards(world: World, alice: User, bob: User) -> None:
    state = kept(world, alice, phase="purging")
    Operation.objects.create(kind="purge", agent_state=state, requested_by=bob, request={"batch": "0" * 32})
    assert world.work().state == "failed"
    look(world)
    look(world)
    assert there(world, state)


def test_a_phase_that_nobody_asked_for_purges_nothing(world: World, alice: User) -> None:
    state = kept(world, alice, phase="purging")
    look(world)
    assert there(world, state)


def test_the_state_of_a_live_agent_is_never_deleted(world: World, alice: User) -> None:
    factories.agent_smith()
    request_launch(alice, factories.launch_request())
    assert world.work().state == "succeeded"
    state = AgentState.objects.get()
    AgentState.objects.update(phase="purging")
    Operation.objects.create(
        kind="purge", agent_state=state, requested_by=alice, request={"batch": "0" * 32}, state="failed"
    )
    look(world)
    assert there(world, state)


def test_what_an_interrupted_purge_left_goes_with_the_next_look(world: World, alice: User) -> None:
    state = kept(world, alice)
    purging.request_purge(alice, states=[state.key])
    world.broker.errors["purge_state"] = BrokerUnreachable("away")
    assert world.work().state == "failed"
    assert there(world, state)
    look(world)
    world.broker.errors.clear()
    look(world)
    assert not there(world, state)


def test_a_refused_purge_of_a_snapshot_is_not_carried_out_afterwards(world: World, alice: User, bob: User) -> None:
    snapshot = factories.snapshot(kept(world, alice), phase="purging")
    Operation.objects.create(kind="purge", snapshot=snapshot, requested_by=bob, request={"batch": "0" * 32})
    assert world.work().state == "failed"
    look(world)
    assert type(snapshot).objects.filter(pk=snapshot.pk).exists()
