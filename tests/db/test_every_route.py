"""Every page, websocket, request to the runner and operation, for everybody: a way in without a row fails here."""

from __future__ import annotations

import importlib
import inspect
import pathlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import Client

from agents import operations
from agents.models import AuditEvent, User
from agents.operations import gateway
from agents.operations.errors import Conflict, Invalid, NotFound, Refused
from agents.operations.runner_service import RunnerService
from agents.web.routing import websocket_urlpatterns
from tests import factories
from tests.db.conftest import World
from tests.db.route_rows import (
    ADMIN_OTHERS,
    OPERATIONS,
    PAGES,
    RECORD_PAGES,
    RUNNER,
    WEBSOCKETS,
    WHO,
)
from tests.support.routes import filled, templates
from tests.support.websockets import Person as AtTerminal

BACKEND = "agents.operations.accounts.OneTimeAwareBackend"
TAKES_A_PERSON = {"User", "Person", "By", "User | None", "Root"}
RECORD_LISTS = re.compile(r"/admin/agents/\w+/")

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast(alice: User, stranger: User, admin: User, settings: Any) -> dict[str, Any]:
    """Who asks; alice is the owner of everything."""
    settings.JACKIN_INSECURE_HTTP = True
    factories.person("off", is_active=False)
    return {
        "anonymous": AnonymousUser(),
        "stranger": stranger,
        "owner": alice,
        "administrator": admin,
        "must change password": factories.person("changing", must_change_password=True, is_superuser=True),
        "disabled": User.objects.get(username="off"),
    }


@pytest.fixture
def things(alice: User) -> SimpleNamespace:
    """What alice has: a launch that waits, one that failed, an agent that runs, a state and a snapshot of it."""
    ended = factories.agent(alice, state="failed")
    failed = factories.launch(alice, agent=ended, state="failed")
    state = factories.state(alice)
    return SimpleNamespace(
        launch=factories.launch(alice),
        failed=failed,
        agent=factories.agent(alice),
        state=state,
        snapshot=factories.snapshot(state),
    )


def values(things: SimpleNamespace, template: str) -> Mapping[str, str]:
    """What stands for the arguments of an address: alice's things."""
    keys = {"states": things.state.key, "snapshots": things.snapshot.key}
    key = keys.get(template.split("/")[1], things.agent.key)
    return {"key": key, "operation_id": str(things.launch.id), "username": "alice", "name": "alice"}


def rows_of_pages() -> dict[str, tuple[str, ...]]:
    """PAGES, and the records' rows for each list that there is."""
    found = dict(PAGES)
    for template in templates():
        if RECORD_LISTS.fullmatch(template):
            found |= {row.replace("{list}", template): answers for row, answers in RECORD_PAGES.items()}
    return found


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────


def said(answer: Any) -> str:
    """The answer in the words of the rows."""
    if answer.status_code in (302, 301):
        place = answer["Location"].partition("?")[0]
        if place in ("/login", "/admin/login/") and "next=" in answer["Location"]:
            return "login"
        return "password" if place == "/password" else "ok"
    return {200: "ok", 404: "404", 403: "403"}.get(answer.status_code, "refused")


def test_every_address_has_a_row() -> None:
    named = {row.split(" ")[1] for row in rows_of_pages()} | set(ADMIN_OTHERS)
    known = {template for template in templates() if not re.fullmatch(r"/admin/agents/\w+/\{object_id\}/", template)}
    assert known - named == set(), "add a row for these to tests/db/route_rows.py"
    assert named - known == set(), "these are no addresses any more"
    assert len(known) > 60


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("row", PAGES)
def test_pages(gate: list[Any], cast: dict[str, Any], things: SimpleNamespace, row: str, who: str) -> None:
    method, template = row.split(" ")
    client = Client()
    if isinstance(cast[who], User):
        client.force_login(cast[who], backend=BACKEND)
    before = snapshot(things)
    answer = getattr(client, method.lower())(filled(template, values(things, template)))
    assert said(answer) == PAGES[row][WHO.index(who)], answer.content[:300]
    if said(answer) in {"404", "403", "login", "password"}:
        assert snapshot(things) == before, "who is refused changes nothing"


@pytest.mark.parametrize("who", WHO)
def test_records(cast: dict[str, Any], things: SimpleNamespace, who: str) -> None:
    client = Client()
    if isinstance(cast[who], User):
        client.force_login(cast[who], backend=BACKEND)
    before = snapshot(things)
    for row, answers in rows_of_pages().items():
        if row in PAGES:
            continue
        method, template = row.split(" ")
        wanted = answers[WHO.index(who)]
        got = said(getattr(client, method.lower())(filled(template, {"object_id": "999999"})))
        assert got == wanted or (got in {"403", "ok"} and wanted == "ok"), (row, got, wanted)
    for template in ADMIN_OTHERS:
        got = said(client.get(filled(template)))
        assert who == "administrator" or got in {"login", "password", "403", "404", "ok"}, template
    assert snapshot(things) == before


def test_anybody_elses_and_missing_things_look_the_same(cast: dict[str, Any], things: SimpleNamespace) -> None:
    client = Client()
    client.force_login(cast["stranger"], backend=BACKEND)
    for row, answers in PAGES.items():
        method, template = row.split(" ")
        if answers[WHO.index("stranger")] == "404" and "{" in template:
            ask = getattr(client, method.lower())
            assert ask(filled(template, values(things, template))).content == ask(filled(template)).content, row


def snapshot(things: SimpleNamespace) -> tuple[object, ...]:
    things.launch.refresh_from_db()
    things.agent.refresh_from_db()
    rows = User.objects.order_by("pk").values_list("username", "is_active", "is_superuser", "password", "deleted_at")
    return things.launch.state, things.launch.cancel_requested, things.agent.state, list(rows)


# ── Websockets ───────────────────────────────────────────────────────────────────────────────────


def websockets() -> set[str]:
    return set(templates(websocket_urlpatterns, ""))


def test_every_websocket_has_a_row() -> None:
    assert websockets() == set(WEBSOCKETS)


# ── The runner's socket ──────────────────────────────────────────────────────────────────────────


def test_every_request_of_the_runner_has_a_row(world: World) -> None:
    service = RunnerService(world.engines, secrets=world.secrets, wake=lambda: None)
    assert set(service._answers) == set(RUNNER)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("op", RUNNER)
def test_requests_of_the_runner(world: World, cast: dict[str, Any], op: str, who: str) -> None:
    world.broker.target.passwords["alice-unix"] = "the password"
    for name in ("stranger", "root-like"):
        world.broker.target.add_link(name, "alice-unix")
    service = RunnerService(world.engines, secrets=world.secrets, wake=lambda: None)
    ask, answers = RUNNER[op]
    name = cast[who].get_username() or "nobody"
    reply = service.answer({"op": op, **ask(name)})
    assert ("ok" if reply["ok"] else "refused") == answers[WHO.index(who)], reply


# ── Operations ───────────────────────────────────────────────────────────────────────────────────


def operations_that_take_a_person() -> set[str]:
    """`module.function` for each public function whose first argument is a person."""
    found = set()
    for module in pkgutil.iter_modules([str(pathlib.Path(operations.__file__).parent)]):
        loaded = importlib.import_module(f"agents.operations.{module.name}")
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            first = next(iter(inspect.signature(function).parameters.values()), None)
            ours = function.__module__ == loaded.__name__ and not name.startswith("_")
            if ours and first is not None and str(first.annotation) in TAKES_A_PERSON:
                found.add(f"{module.name}.{name}")
    return found


def test_every_operation_that_takes_a_person_has_a_row() -> None:
    known = operations_that_take_a_person() - {"audit.actor_name"}
    assert known == set(OPERATIONS), "add a row for these to tests/db/route_rows.py"


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", [name for name, row in OPERATIONS.items() if row is not None])
@pytest.mark.django_db(transaction=True)
def test_operations(
    gate: list[Any], world: World, cast: dict[str, Any], things: SimpleNamespace, name: str, who: str
) -> None:
    world.broker.target.passwords["alice-unix"] = "the password"
    for one in ("stranger", "root-like"):
        world.broker.target.add_link(one, "alice-unix")
    row = OPERATIONS[name]
    assert row is not None
    call, answers = row
    before = snapshot(things)
    got = outcome(lambda: call(cast[who], things))
    assert got == answers[WHO.index(who)]
    if got != "ok":
        assert snapshot(things) == before
        assert AuditEvent.objects.filter(outcome="refused").exists(), "a refusal is written down"


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except NotFound:
        return "404"
    except Refused:
        return "403"
    except (Conflict, Invalid) as error:
        raise AssertionError(error.message) from error
    return "ok"


_ = gateway, AtTerminal
