"""What a launch is refused for: told at its field, written down, and nothing is made."""

from __future__ import annotations

from typing import Any

import pytest

from agents.models import Agent, AuditEvent, User
from agents.operations import gateway
from agents.operations.errors import Invalid, Refused, Unavailable
from agents.operations.launch import request_launch
from tests import factories
from tests.db.conftest import World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("gate")]


def test_without_a_runner_nothing_is_made(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionRefusedError

    monkeypatch.setattr(gateway.wire, "call", call)
    with pytest.raises(Unavailable):
        request_launch(alice, factories.launch_request())
    assert not Agent.objects.exists()


BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"class_slug": "nobody"}, "class_slug", "Choose one of: agent-smith"),
    ({"runtime": "bash"}, "runtime", "Choose one of: claude, shell"),
    ({"cpus": 4096.0}, "cpus", "this machine allows"),
    ({"cpus": float("nan")}, "cpus", "this machine allows"),
    ({"memory_gb": 1e9}, "memory_gb", "this machine allows"),
    ({"pids": 10**9}, "pids", "this machine allows"),
    ({"environment": "nonsense"}, "environment", "Line 1"),
    ({"mounts": ()}, "mounts", "at least one"),
    ({"mounts": (factories.mount(source="relative"),)}, "mounts.0.source", "relative"),
    ({"mounts": (factories.mount(source="/missing"),)}, "mounts.0.source", "does not exist"),
]


@pytest.mark.parametrize(("fields", "field", "says"), BAD_FIELDS)
def test_bad_input_is_told_at_its_field(
    world: World, alice: User, fields: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(Invalid) as caught:
        request_launch(alice, factories.launch_request(**fields))
    assert list(caught.value.errors) == [field]
    assert says in caught.value.errors[field][0]
    assert not Agent.objects.exists()
    assert AuditEvent.objects.filter(action="agent.launch", outcome="refused", actor="alice").count() == 1


def test_all_wrong_fields_are_told_at_once(alice: User) -> None:
    wrong = factories.launch_request(class_slug="x", cpus=0, environment="x", mounts=(factories.mount("x", "y"),))
    with pytest.raises(Invalid) as caught:
        request_launch(alice, wrong)
    wanted = {"class_slug", "cpus", "environment", "mounts.0.source", "mounts.0.destination"}
    assert set(caught.value.errors) == wanted
    assert set(caught.value.mount_errors(0)) == {"source", "destination"}


def test_somebody_without_an_account_on_the_host_is_told_so(stranger: User) -> None:
    with pytest.raises(Invalid) as caught:
        request_launch(stranger, factories.launch_request())
    assert "not linked to a Unix account" in caught.value.errors[""][0]


def test_there_is_a_limit_to_the_agents_of_one_person(alice: User, settings: Any) -> None:
    settings.JACKIN_MAX_AGENTS = 1
    request_launch(alice, factories.launch_request())
    with pytest.raises(Exception, match="the most allowed"):
        request_launch(alice, factories.launch_request())


def test_a_person_who_may_not_is_refused(alice: User) -> None:
    alice.must_change_password = True
    with pytest.raises(Refused, match="password"):
        request_launch(alice, factories.launch_request())
    alice.must_change_password, alice.is_active = False, False
    with pytest.raises(Refused, match="switched off"):
        request_launch(alice, factories.launch_request())
