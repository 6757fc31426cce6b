"""The page of a purge: what was not shown does not go; and the lists to choose from, by age, size and person."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import AgentState, User
from tests import factories
from tests.db.web.html import shown_on

AtPage = Callable[[User | None], Client]


def test_what_was_not_shown_does_not_go(at_page: AtPage, alice: User) -> None:
    state = factories.state(alice, size=1000, has_logins=False)
    page = f"/states/purge?state={state.key}"
    shown = shown_on(at_page(alice).get(page).content.decode())
    for change in ({"size": 2000}, {"has_logins": True}):
        AgentState.objects.update(**change)
        answer = at_page(alice).post("/states/purge", {"state": state.key, "shown": shown, "confirm": state.name})
        assert answer.status_code == 409
        assert "changed since it was shown" in answer.content.decode()
        AgentState.objects.update(size=1000, has_logins=False)
    agent = factories.agent(alice, agent_state=state, name=state.name)
    answer = at_page(alice).post("/states/purge", {"state": state.key, "shown": shown, "eject": "on"})
    assert answer.status_code == 409, "an agent that was not listed is not ejected"
    agent.refresh_from_db()
    assert (agent.state, AgentState.objects.get().phase) == ("running", "kept")


def test_the_page_asks_as_many_questions_for_fifty_as_for_two(at_page: AtPage, alice: User) -> None:
    client, keys = at_page(alice), [factories.state(alice).key for _ in range(50)]
    counts = []
    for some in (keys[:2], keys[:2], keys):
        with CaptureQueriesContext(connection) as questions:
            assert client.get("/states/purge?" + "&".join(f"state={key}" for key in some)).status_code == 200
        counts.append(len(questions))
    assert counts[1] == counts[2]
    assert client.get("/states/purge?" + "&".join(f"state={key}" for key in keys * 3)).status_code == 409


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("older=30", {"forgotten", "never-used"}),
        ("older=365", {"never-used"}),
        ("larger=100", {"large"}),
        ("person=bob", {"bobs"}),
        ("older=nonsense", {"daily", "forgotten", "never-used", "large", "bobs"}),
    ],
)
def test_filters_of_states(at_page: AtPage, alice: User, bob: User, admin: User, asked: str, found: set[str]) -> None:
    """What is in daily use is not old, however long ago it was made."""
    now = timezone.now()
    made = [("daily", alice, 0, 1), ("forgotten", alice, 60, 1), ("never-used", alice, None, 1)]
    made += [("large", alice, 0, 2**30), ("bobs", bob, 0, 1)]
    for name, owner, used, size in made:
        at = None if used is None else now - datetime.timedelta(days=used)
        factories.state(owner, name=name, last_used_at=at, size=size)
    AgentState.objects.update(created_at=now - datetime.timedelta(days=400))
    html = at_page(admin).get(f"/admin/agents/agentstate/?{asked}").content.decode()
    assert {name for name, *_ in made if f">{name}</a>" in html} == found
