"""What the pages say about agents and operations in each state."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client, override_settings
from django.utils import timezone

from agents.models import Agent, AgentStatus, HostAccount, MountGrant, Operation, OperationLog, OperationState, User
from tests import factories
from tests.db.web.conftest import ToldRunner
from tests.db.web.html import Page, html_of, page_of

AtPage = Callable[[User | None], Client]
PART = {"HX-Request": "true"}


def words(response: Any) -> str:
    """The text of a page, spaces made single."""
    return re.sub(r"\s+", " ", Page(html_of(response)).all("main")[0].text)


def failed(owner: User, *, step: str = "mounts") -> Operation:
    """A launch that failed at `step`."""
    operation = factories.launch(owner)
    now = timezone.now()
    operation.steps.filter(name="identity").update(state="succeeded", started_at=now, finished_at=now)
    operation.steps.filter(name=step).update(state="failed", started_at=now, finished_at=now)
    Operation.objects.filter(pk=operation.pk).update(
        state=OperationState.FAILED,
        error="alice may not read /home/alice/project.",
        remedy="Give alice the right to read it.",
        failed_step=step,
        finished_at=now,
    )
    Agent.objects.filter(pk=operation.agent_id).update(
        state=AgentStatus.FAILED, ended_at=now, end_reason="alice may not read /home/alice/project."
    )
    operation.refresh_from_db()
    return operation


def test_an_empty_dashboard_says_what_to_do_first(at_page: AtPage, stranger: User, linked: HostAccount) -> None:
    text = words(at_page(stranger).get("/"))
    assert "Give an agent one folder to start with" in text
    assert "host link stranger ACCOUNT" in text
    assert "Agents act on files as alice, uid 1004" in words(at_page(linked.user).get("/"))


def test_the_dashboard_shows_only_one_s_own_agents(at_page: AtPage, alice: User, bob: User) -> None:
    mine = factories.agent(alice)
    MountGrant.objects.create(
        agent=mine,
        position=0,
        source_asked="/home/alice/project",
        real_path="/home/alice/project",
        device=1,
        inode="1",
        destination="/workspace/project",
        mode="rw",
        granted_by=alice,
        reason="launch",
    )
    others = factories.agent(bob)
    html = html_of(at_page(alice).get("/"))
    assert mine.key in html
    assert "/home/alice/project" in html
    assert "1 rw" in html
    assert others.key not in html


@pytest.mark.parametrize(
    ("state", "word", "action"),
    [
        ("starting", "Starting", "Watch"),
        ("running", "Running", "Terminal"),
        ("ejecting", "Ejecting", "Watch"),
        ("ended", "Ended", "Launch again"),
        ("failed", "Failed", "Why"),
    ],
)
def test_each_state_has_its_word_and_action(at_page: AtPage, alice: User, state: str, word: str, action: str) -> None:
    operation = factories.launch(alice)
    Agent.objects.update(state=state, started_at=timezone.now())
    if state not in ("starting", "ejecting"):
        Operation.objects.update(state="succeeded")
    row = next(e for e in page_of(at_page(alice).get("/")).all("tr") if "data-row" in e)
    assert word in row.text
    assert action in row.text
    assert operation.agent is not None
    page = page_of(at_page(alice).get(f"/agents/{operation.agent.key}"))
    assert next(e.text for e in page.all("span") if re.fullmatch(r"state [a-z]+", e["class"])) == word
    assert bool([e for e in page.elements if "data-terminal" in e]) == (state == "running")


def test_the_list_is_filtered_by_state(at_page: AtPage, alice: User) -> None:
    running, ended = factories.agent(alice), factories.agent(alice, state=AgentStatus.ENDED)
    html = html_of(at_page(alice).get("/?show=ended"))
    assert ended.key in html
    assert running.key not in html
    assert "No agent of yours failed." in html_of(at_page(alice).get("/?show=failed"))
    assert running.key in html_of(at_page(alice).get("/?show=nonsense"))


def test_one_address_gives_the_page_or_its_part(at_page: AtPage, alice: User) -> None:
    agent = factories.agent(alice)
    operation = factories.launch(alice)
    for path in ("/", "/operations", f"/operations/{operation.pk}", f"/agents/{agent.key}"):
        client = at_page(alice)
        assert "<!DOCTYPE html>" in html_of(client.get(path))
        part = html_of(client.get(path, headers=PART))
        assert "<html" not in part
        assert part.strip()


def test_a_failed_launch_says_where_why_what_to_do_and_what_was_undone(at_page: AtPage, alice: User) -> None:
    operation = failed(alice)
    text = words(at_page(alice).get(f"/operations/{operation.pk}"))
    assert "Failed at step 3 of 8" in text
    assert "alice may not read /home/alice/project." in text
    assert "Give alice the right to read it." in text
    assert "nothing of this launch is left running" in text
    assert f"/launch?from={operation.pk}" in html_of(at_page(alice).get(f"/operations/{operation.pk}"))
    assert operation.agent is not None
    assert "alice may not read" in words(at_page(alice).get(f"/agents/{operation.agent.key}"))


def test_the_log_shows_each_character_and_not_without_end(at_page: AtPage, alice: User) -> None:
    operation = factories.launch(alice)
    OperationLog.objects.create(operation=operation, text="\x1b[31mred\u202e<script>alert(1)</script>\n" * 1000)
    html = html_of(at_page(alice).get(f"/operations/{operation.pk}"))
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "<script>alert" not in html
    assert '<span class="odd">\\x1b</span>[31mred' in html
    assert html.count("[31mred") == 400
    assert "the last 400 lines" in words(at_page(alice).get(f"/operations/{operation.pk}"))


def test_who_watches_a_launch_is_led_to_the_terminal(at_page: AtPage, alice: User) -> None:
    operation = factories.launch(alice)
    assert operation.agent is not None
    client = at_page(alice)
    path = f"/operations/{operation.pk}"
    assert "HX-Redirect" not in client.get(path, headers=PART)
    Operation.objects.update(state=OperationState.SUCCEEDED)
    Agent.objects.update(state=AgentStatus.RUNNING)
    assert client.get(path, headers=PART)["HX-Redirect"] == f"/agents/{operation.agent.key}"
    assert client.get(path).status_code == 200  # who opens it later may read it


def test_an_operation_that_is_over_ends_the_asking(at_page: AtPage, alice: User) -> None:
    operation = failed(alice)
    assert "data-over" in at_page(alice).get(f"/operations/{operation.pk}", headers=PART).content.decode()
    under_way = factories.launch(alice)
    assert "data-over" not in at_page(alice).get(f"/operations/{under_way.pk}", headers=PART).content.decode()


def test_what_the_service_did_by_itself_does_not_hide_why_a_launch_failed(at_page: AtPage, alice: User) -> None:
    launch = failed(alice)
    Operation.objects.create(kind="reconcile", agent=launch.agent, state=OperationState.SUCCEEDED)
    assert launch.agent is not None
    assert launch.error in words(at_page(alice).get(f"/agents/{launch.agent.key}"))
    assert "Failed at step 3" in words(at_page(alice).get(f"/agents/{launch.agent.key}"))


def test_the_agent_s_page_loads_anew_when_the_state_changed(at_page: AtPage, alice: User) -> None:
    agent = factories.agent(alice)
    path = f"/agents/{agent.key}?part=head&seen="
    assert "HX-Refresh" not in at_page(alice).get(path + "running", headers=PART)
    assert at_page(alice).get(path + "starting", headers=PART)["HX-Refresh"] == "true"


def test_eject_is_confirmed_then_shown_on_the_agent_s_page(at_page: AtPage, alice: User) -> None:
    agent = factories.agent(alice)
    client = at_page(alice)
    assert "Its processes are stopped" in words(client.get(f"/agents/{agent.key}/eject"))
    agent.refresh_from_db()
    assert agent.state == AgentStatus.RUNNING  # looking at the question does nothing
    answer = client.post(f"/agents/{agent.key}/eject")
    assert answer["Location"] == f"/agents/{agent.key}"
    agent.refresh_from_db()
    assert agent.state == AgentStatus.EJECTING
    assert "It is being ejected already." in words(client.get(f"/agents/{agent.key}/eject"))


def test_ejecting_what_has_ended_is_a_conflict_in_words(at_page: AtPage, alice: User) -> None:
    agent = factories.agent(alice, state=AgentStatus.ENDED)
    answer = at_page(alice).post(f"/agents/{agent.key}/eject")
    assert answer.status_code == 409
    assert "has ended already" in html_of(answer)


def test_a_queued_launch_is_cancelled(at_page: AtPage, alice: User) -> None:
    operation = factories.launch(alice)
    answer = at_page(alice).post(f"/operations/{operation.pk}/cancel")
    assert answer["Location"] == f"/operations/{operation.pk}"
    operation.refresh_from_db()
    assert operation.state == OperationState.CANCELLED
    assert at_page(alice).post(f"/operations/{operation.pk}/cancel").status_code == 409


@pytest.mark.parametrize("trouble", ["silent", "engine"])
def test_an_engine_that_is_down_is_said(at_page: AtPage, alice: User, runner: ToldRunner, trouble: str) -> None:
    factories.agent(alice)
    assert "The engine does not answer" not in words(at_page(alice).get("/"))
    setattr(runner, trouble, trouble == "silent")
    from agents.web import context

    context.forget_engine()
    html = html_of(at_page(alice).get("/"))
    assert "The engine does not answer" in html
    assert "Engine not reachable" in html
    assert "Engine up" not in html


def test_the_banner_about_plain_http_comes_with_the_second_account(at_page: AtPage, alice: User) -> None:
    assert "Plain HTTP" not in html_of(at_page(alice).get("/"))
    factories.person("second")
    assert "Plain HTTP" in html_of(at_page(alice).get("/"))
    with override_settings(JACKIN_TLS=True):
        assert "Plain HTTP" not in html_of(at_page(alice).get("/"))


def test_the_account_page_names_the_unix_account(at_page: AtPage, alice: User, linked: HostAccount) -> None:
    text = words(at_page(alice).get("/account"))
    assert "alice, uid 1004" in text


@pytest.mark.parametrize("path", ["/nothing", "/agents/xyz", "/agents/" + "A" * 32, "/operations/1"])
def test_an_unknown_address_is_a_page_of_ours(at_page: AtPage, alice: User, path: str) -> None:
    answer = at_page(alice).get(path)
    assert answer.status_code == 404
    assert "Nothing here" in html_of(answer)
