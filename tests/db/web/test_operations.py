"""The pages of operations: output as it comes, trying again, ejecting many at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from agents.models import Agent, Operation, OperationLog, User
from agents.operations.exile import Scope, request_exile
from agents.web.oplog import MOST_LINES
from tests import factories
from tests.db.web.conftest import ToldRunner
from tests.db.web.html import Page, html_of
from tests.db.web.test_markup import check
from tests.db.web.test_pages import failed, words

AtPage = Callable[[User | None], Client]


def lines(answer: Any) -> list[str]:
    return [one.text.strip() for one in Page(f"<ol>{answer.content.decode()}</ol>").all("li")]


def test_output_comes_piece_by_piece(at_page: AtPage, alice: User) -> None:
    launch = factories.launch(alice, state="running")
    client, path = at_page(alice), f"/operations/{launch.pk}"
    first = OperationLog.objects.create(operation=launch, text="one\ntwo")
    page = client.get(path).content.decode()
    assert f'data-oplog="{path}/log"' in page
    assert f'data-since="{first.pk}"' in page
    answer = client.get(f"{path}/log")
    assert (lines(answer), answer["X-Log-Last"], answer["X-Log-Open"]) == (["one", "two"], str(first.pk), "1")
    answer = client.get(f"{path}/log?since={first.pk}")
    assert (lines(answer), answer["X-Log-Last"]) == ([], str(first.pk))
    second = OperationLog.objects.create(operation=launch, text="three \x1b[31m<b>")
    OperationLog.objects.create(operation=factories.launch(alice), text="of another")
    answer = client.get(f"{path}/log?since={first.pk}")
    (line,) = lines(answer)
    assert line.startswith("three ")
    assert "\x1b" not in answer.content.decode()
    assert "<b>" not in answer.content.decode()
    Operation.objects.update(state="failed")
    answer = client.get(f"{path}/log?since={second.pk}")
    assert (lines(answer), answer["X-Log-Open"]) == ([], "0")
    assert 'data-oplog=""' in client.get(path).content.decode(), "nothing more comes: the page does not ask"


@pytest.mark.parametrize("since", ["", "x", "-1", "²", "1e9", "9" * 19, "1 OR 1=1"])
def test_a_point_that_makes_no_sense_is_the_beginning(at_page: AtPage, alice: User, since: str) -> None:
    launch = factories.launch(alice)
    OperationLog.objects.create(operation=launch, text="one")
    answer = at_page(alice).get(f"/operations/{launch.pk}/log", {"since": since})
    assert (answer.status_code, lines(answer)) == (200, ["one"])


def test_an_answer_is_bounded(at_page: AtPage, alice: User) -> None:
    launch = factories.launch(alice)
    OperationLog.objects.create(operation=launch, text="\n".join(f"line {n}" for n in range(3 * MOST_LINES)))
    answer = at_page(alice).get(f"/operations/{launch.pk}/log")
    assert (len(lines(answer)), lines(answer)[-1]) == (MOST_LINES, f"line {3 * MOST_LINES - 1}")


def test_the_page_of_a_launching_agent_shows_its_output(at_page: AtPage, alice: User) -> None:
    launch = factories.launch(alice, state="running")
    OperationLog.objects.create(operation=launch, text="Step 3/9 : RUN make")
    assert launch.agent is not None
    assert "Step 3/9 : RUN make" in words(at_page(alice).get(f"/agents/{launch.agent.key}"))
    Agent.objects.update(state="failed")
    assert "Step 3/9 : RUN make" not in words(at_page(alice).get(f"/agents/{launch.agent.key}"))


def test_a_failed_launch_is_tried_again_by_a_button(at_page: AtPage, alice: User, runner: ToldRunner) -> None:
    launch = failed(alice)
    client, path = at_page(alice), f"/operations/{launch.pk}"
    text = words(client.get(path))
    for wanted in ("Failed at step 3 of 8", launch.error, launch.remedy, "Try again", "Change and launch again"):
        assert wanted in text
    answer = client.post(f"{path}/retry")
    again = Operation.objects.exclude(pk=launch.pk).get()
    assert (answer.status_code, answer["Location"]) == (302, f"/operations/{again.pk}")
    assert runner.woken == [again.pk]
    assert again.agent_id != launch.agent_id


def test_a_launch_that_needs_secrets_leads_to_the_form(at_page: AtPage, alice: User) -> None:
    launch = failed(alice)
    Operation.objects.update(secrets_needed=True)
    client, path = at_page(alice), f"/operations/{launch.pk}"
    text = words(client.get(path))
    assert "Launch again, typing its environment anew" in text
    assert "Try again" not in text
    answer = client.post(f"{path}/retry")
    assert answer["Location"] == f"/launch?from={launch.pk}"
    assert client.get(answer["Location"]).status_code == 200
    assert Operation.objects.count() == 1


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_there_is_no_button_and_no_way_for_the_rest(at_page: AtPage, alice: User, state: str) -> None:
    launch = factories.launch(alice, state=state)
    client = at_page(alice)
    assert "Try again" not in words(client.get(f"/operations/{launch.pk}"))
    answer = client.post(f"/operations/{launch.pk}/retry")
    assert (answer.status_code, Operation.objects.count()) == (409, 1)


def test_what_cannot_be_cancelled_has_no_button_for_it(at_page: AtPage, alice: User) -> None:
    eject = Operation.objects.create(kind="eject", agent=factories.agent(alice), requested_by=alice)
    client = at_page(alice)
    assert "Cancel" not in words(client.get(f"/operations/{eject.pk}"))
    answer = client.post(f"/operations/{eject.pk}/cancel")
    assert answer.status_code == 409
    assert "goes on to its end" in words(answer)


def test_all_of_mine_are_ejected_after_a_confirmation(at_page: AtPage, alice: User, bob: User) -> None:
    mine, theirs = factories.agent(alice), factories.agent(bob)
    client = at_page(alice)
    assert "Eject all of mine" in words(client.get("/"))
    page = client.get("/exile")
    check(html_of(page))
    assert mine.name in words(page)
    assert theirs.name not in words(page)
    answer = client.post("/exile")
    exile = Operation.objects.get()
    assert answer["Location"] == f"/operations/{exile.pk}"
    assert (exile.kind, exile.request) == ("exile", {"scope": "own", "person": "alice"})
    page = client.get(answer["Location"])
    check(html_of(page))
    text = words(page)
    assert "Eject all of mine" in text
    assert mine.name in text
    assert "Leave the rest alone" in text
    assert "Eject all of mine" in words(client.get("/operations"))


def test_without_agents_there_is_nothing_to_confirm(at_page: AtPage, alice: User) -> None:
    client = at_page(alice)
    assert "There is no agent to eject" in words(client.get("/exile"))
    assert client.post("/exile").status_code == 409


@pytest.mark.parametrize(("path", "word"), [("/exile/of/alice", "alice"), ("/exile/everyone", "everyone")])
def test_other_peoples_are_ejected_after_the_word_was_typed(
    at_page: AtPage, alice: User, admin: User, path: str, word: str
) -> None:
    agent = factories.agent(alice)
    client = at_page(admin)
    check(html_of(client.get(path)))
    for wrong in ("", "Alice", "yes", "<b>"):
        answer = client.post(path, {"confirm": wrong})
        assert answer.status_code == 422
        check(html_of(answer))
        assert "Nothing was ejected" in words(answer)
    assert not Operation.objects.exists()
    answer = client.post(path, {"confirm": word})
    exile = Operation.objects.get()
    assert answer["Location"] == f"/operations/{exile.pk}"
    assert agent.name in words(client.get(answer["Location"]))
    assert client.get(f"/operations/{exile.pk}").status_code == 200
    assert at_page(alice).get(f"/operations/{exile.pk}").status_code == 404, "it is the administrator's"


def test_everybodys_page_leads_to_each_person(at_page: AtPage, alice: User, bob: User, admin: User) -> None:
    factories.agent(alice), factories.agent(alice), factories.agent(bob)
    page = at_page(admin).get("/exile/everyone")
    assert "alice 2 agents" in words(page)
    assert 'href="/exile/of/bob"' in html_of(page)
    assert at_page(admin).get("/exile/of/nobody-of-that-name").status_code == 404


def test_a_partial_failure_is_shown_agent_by_agent(at_page: AtPage, alice: User) -> None:
    first, second = factories.agent(alice), factories.agent(alice)
    exile = request_exile(alice, scope=Scope.OWN)
    exile.steps.filter(name=first.name).update(state="succeeded")
    exile.steps.filter(name=second.name).update(state="failed", message="The engine is away.")
    error = f"1 of 2 agents could not be ejected. {second.name}: The engine is away."
    Operation.objects.update(state="failed", error=error, failed_step=second.name, remedy="Again.")
    text = words(at_page(alice).get(f"/operations/{exile.pk}"))
    assert f"{second.name}: failedThe engine is away." in text
    assert f"{first.name}: done" in text
    for wanted in (error, "Again.", "Try again"):
        assert wanted in text


def test_a_forged_exile_does_not_close_the_pages(at_page: AtPage, alice: User) -> None:
    for request in ([], "x", {"scope": "everybody"}):
        Operation.objects.create(id=uuid.uuid4(), kind="exile", requested_by=alice, request=request)
    client = at_page(alice)
    assert client.get("/operations").status_code == 200
    for operation in Operation.objects.all():
        assert client.get(f"/operations/{operation.pk}").status_code == 200
