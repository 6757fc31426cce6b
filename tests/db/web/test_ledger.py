"""The ledger of mounts: found by person and path, exported without formulas; and lists that ask few questions."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents.models import Agent, AgentState, AuditEvent, MountGrant, Operation, StateSnapshot, User
from agents.operations import ledger
from tests import factories
from tests.db.web.html import shown_on

AtPage = Callable[[User | None], Client]
LIST = "/admin/agents/mountgrant/"
PATHS = ["/", "/srv", "/srv/data", "/srv/data/in", "/srvx", "/srv_", "/srv/%", "/home/alice/\u202eodd"]


def granted(agent: Agent, *paths: str, first: int = 0) -> list[MountGrant]:
    return MountGrant.objects.bulk_create(
        MountGrant(
            agent=agent, position=first + n, source_asked=path, real_path=path, device=1, inode="1",
            destination=f"/w/{first + n}", mode="rw", granted_by=agent.owner, reason="asked for",
        )
        for n, path in enumerate(paths)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/srv/data", ["/", "/srv", "/srv/data", "/srv/data/in"]),
        ("/srv", ["/", "/srv", "/srv/%", "/srv/data", "/srv/data/in"]),
        ("/srv/", ["/", "/srv", "/srv/%", "/srv/data", "/srv/data/in"]),
        ("/srv_", ["/", "/srv_"]),
        ("/srv/%", ["/", "/srv", "/srv/%"]),
        ("/nowhere", ["/"]),
        ("alice /srvx", ["/", "/srvx"]),
        ("bob /srv", []),
        ("/home/alice/\\u202eodd", ["/", "/home/alice/\u202eodd"]),
        ("\x00", PATHS),
        ("/" + "a/" * 3000, ["/"]),
    ],
)
def test_a_path_finds_what_is_above_and_below_it(alice: User, asked: str, found: list[str]) -> None:
    granted(factories.agent(alice), *PATHS)
    got = ledger.searched(MountGrant.objects.all(), asked).values_list("real_path", flat=True)
    assert sorted(got) == sorted(found)


def test_the_export_holds_no_formula_and_is_written_down(at_page: AtPage, alice: User, admin: User) -> None:
    ended = factories.agent(alice, state="ended")
    granted(ended, "/srv/a", "/srv/b\x1b[31m")
    MountGrant.objects.filter(real_path="/srv/a").update(reason='=HYPERLINK("http://x")', source_asked="-1+1")
    answer = at_page(admin).post(f"{LIST}export/?q=/srv")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["real_path"] for row in rows] == ["/srv/b\\x1b[31m", "/srv/a"]
    assert (rows[1]["reason"], rows[1]["path_asked"]) == ('\'=HYPERLINK("http://x")', "'-1+1")
    assert {row["active"] for row in rows} == {"no"}
    assert AuditEvent.objects.filter(action="ledger.export", actor=admin.username, outcome="done").count() == 1


def test_the_export_is_for_administrators(at_page: AtPage, alice: User, carol: User) -> None:
    granted(factories.agent(alice), "/srv/a")
    assert at_page(carol).get(LIST).status_code == 200
    refused = at_page(carol).post(f"{LIST}export/")
    assert refused.status_code in (403, 404)
    assert AuditEvent.objects.filter(action="ledger.export", outcome="refused").exists()
    assert at_page(carol).get(f"{LIST}export/").status_code == 405


def test_administrators_choose_what_is_purged_and_see_it_first(at_page: AtPage, alice: User, admin: User) -> None:
    states = [factories.state(alice, size=n * 10**9) for n in (1, 2)]
    page = reverse("admin:agents_agentstate_changelist")
    chosen = {"action": "purge_chosen", "_selected_action": [str(one.pk) for one in states]}
    answer = at_page(admin).post(page, chosen, follow=True)
    text = answer.content.decode()
    assert all(one.name in text for one in states)
    assert "of alice" in text
    keys = [one.key for one in states]
    assert at_page(admin).post("/states/purge", {"state": keys, "confirm": "1"}).status_code == 400
    done = at_page(admin).post("/states/purge", {"state": keys, "confirm": "2", "shown": shown_on(text)}, follow=True)
    assert done.status_code == 200
    assert set(AgentState.objects.values_list("phase", flat=True)) == {"purging"}
    assert AuditEvent.objects.filter(action="state.purge", actor=admin.username).count() == 2


def test_auditors_cannot_choose_anything(at_page: AtPage, alice: User, carol: User) -> None:
    state = factories.state(alice)
    page = reverse("admin:agents_agentstate_changelist")
    answer = at_page(carol).post(page, {"action": "purge_chosen", "_selected_action": [str(state.pk)]})
    assert "/states/purge" not in answer.get("Location", "")


def many(owner: User, count: int) -> None:
    """Rows of every list."""
    ended = factories.agent(owner, state="ended")
    launch = factories.launch(owner, agent=ended, state="failed")
    granted(ended, *(f"/srv/{n}" for n in range(count)), first=100)
    fields = [f.attname for f in Agent._meta.concrete_fields if f.attname not in {"id", "key", "name"}]
    values = {name: getattr(ended, name) for name in fields}
    Agent.objects.bulk_create(Agent(name=f"many-{owner}-{n}", **values) for n in range(count))
    Operation.objects.bulk_create(
        Operation(kind="launch", agent=ended, requested_by=owner, state="failed") for _ in range(count)
    )
    AuditEvent.objects.bulk_create(AuditEvent(actor=owner.username, action="x", summary=str(n)) for n in range(count))
    kind = ended.agent_class
    AgentState.objects.bulk_create(
        AgentState(name=f"many-{owner}-{n}", owner=owner, agent_class=kind) for n in range(count)
    )
    StateSnapshot.objects.bulk_create(
        StateSnapshot(state_key="0" * 32, state_name=str(n), owner=owner, agent_class=kind) for n in range(count)
    )
    assert launch.agent is not None


LISTS = [
    *[f"/admin/agents/{name}/" for name in ("agent", "operation", "auditevent", "agentstate", "statesnapshot")],
    *[LIST, f"{LIST}?q=/srv/17", f"{LIST}?q=alice+/srv", f"{LIST}?active=yes", "/admin/"],
]


def test_lists_ask_as_many_questions_for_ten_thousand_rows_as_for_ten(
    at_page: AtPage, alice: User, admin: User
) -> None:
    client = at_page(admin)

    def asked() -> dict[str, int]:
        found = {}
        for path in LISTS:
            with CaptureQueriesContext(connection) as questions:
                assert client.get(path).status_code == 200
            found[path] = len(questions)
        return found

    many(alice, 10)
    asked()  # what is asked once only
    few = asked()
    many(factories.person("crowd"), 10_000)
    assert asked() == few
