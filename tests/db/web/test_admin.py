"""The admin pages: staff read every record, nobody changes one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib import admin as django_admin
from django.test import Client
from django.urls import reverse

from agents.models import Agent, AuditEvent, MountGrant, Operation, User
from agents.operations import audit, people
from agents.operations.people import ROOT
from tests import factories
from tests.db.web.html import forbidden, html_of

AtPage = Callable[[User | None], Client]
MODELS = [
    *["agent", "agentclass", "agentstate", "auditevent", "hostaccount", "invitation", "mountgrant", "operation"],
    *["statesnapshot", "user"],
]


@pytest.fixture
def records(alice: User) -> Operation:
    operation = factories.launch(alice)
    assert operation.agent is not None
    MountGrant.objects.create(
        agent=operation.agent,
        position=0,
        source_asked="/home/alice/\u202eproject",
        real_path="/home/alice/\u202eproject",
        device=1,
        inode="1",
        destination="/workspace/project",
        mode="rw",
        granted_by=alice,
        reason="launch",
    )
    factories.snapshot(factories.state(alice))
    people.make_link(ROOT, "alice", insecure_http=True)
    audit.record("agent.launch", actor=alice, agent=operation.agent, summary="evil \x1b[31m \u202e summary")
    return operation


def test_every_record_is_registered() -> None:
    registered = {model._meta.model_name for model in django_admin.site._registry}
    assert registered == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_staff_reads_lists_and_rows(at_page: AtPage, carol: User, records: Operation, model: str) -> None:
    client = at_page(carol)
    listed = client.get(reverse(f"admin:agents_{model}_changelist"), {"q": "a"})
    assert listed.status_code == 200
    assert forbidden(html_of(listed)) == []
    kind = next(k for k in django_admin.site._registry if k._meta.model_name == model)
    row = kind._default_manager.first()
    if row is None:
        return
    shown = client.get(reverse(f"admin:agents_{model}_change", args=[row.pk]))
    assert shown.status_code == 200
    assert forbidden(html_of(shown)) == []
    assert "Save" not in html_of(shown)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("who", ["carol", "admin"])
def test_nothing_is_added_changed_or_deleted(
    at_page: AtPage, request: pytest.FixtureRequest, records: Operation, model: str, who: str
) -> None:
    client = at_page(request.getfixturevalue(who))
    kind = next(k for k in django_admin.site._registry if k._meta.model_name == model)
    row = kind._default_manager.first()
    before = list(kind._default_manager.values())
    assert client.get(reverse(f"admin:agents_{model}_add")).status_code == 403
    assert client.post(reverse(f"admin:agents_{model}_add"), {"username": "x"}).status_code == 403
    if row is not None:
        assert client.post(reverse(f"admin:agents_{model}_change", args=[row.pk]), {"name": "x"}).status_code == 403
        assert client.post(reverse(f"admin:agents_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    client.post(
        reverse(f"admin:agents_{model}_changelist"),
        {"action": "delete_selected", "_selected_action": [str(row.pk) if row else "1"], "post": "yes"},
    )
    assert list(kind._default_manager.values()) == before


@pytest.mark.parametrize("path", ["/admin/", "/admin/agents/agent/", "/admin/agents/mountgrant/"])
def test_who_is_no_staff_sees_no_record(at_page: AtPage, alice: User, records: Operation, path: str) -> None:
    answer = at_page(alice).get(path, follow=True)
    assert answer.status_code == 403
    assert "for administrators" in html_of(answer)


def test_no_password_hash_and_no_hidden_character_is_shown(
    at_page: AtPage, admin: User, alice: User, records: Operation
) -> None:
    client = at_page(admin)
    html = html_of(client.get(reverse("admin:agents_user_change", args=[alice.pk])))
    assert alice.password not in html
    assert "md5$" not in html
    event = AuditEvent.objects.filter(action="agent.launch", summary__startswith="evil").get()
    for page in (
        reverse("admin:agents_auditevent_changelist"),
        reverse("admin:agents_auditevent_change", args=[event.pk]),
        reverse("admin:agents_agent_change", args=[Agent.objects.get().pk]),
        reverse("admin:agents_mountgrant_changelist"),
        reverse("admin:agents_mountgrant_change", args=[MountGrant.objects.get().pk]),
    ):
        html = html_of(client.get(page))
        assert "\x1b" not in html
        assert "\u202e" not in html
        assert "evil" not in html or "\\x1b[31m \\u202e summary" in html


def test_the_admin_s_own_password_page_is_ours(at_page: AtPage, admin: User) -> None:
    html = html_of(at_page(admin).get("/admin/password_change/"))
    assert "Present password" in html
