"""The launch form: what is asked for reaches the operation, and nothing typed is ever lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from agents.engine.types import MountProblem
from agents.models import Agent, HostAccount, Operation, User
from agents.operations import selectors
from agents.operations.launch import GIB
from tests import factories
from tests.db.web.conftest import ToldRunner
from tests.db.web.html import Page, html_of, page_of

AtPage = Callable[[User | None], Client]
SECRET = "sk-very-secret-value"


def form(**changed: Any) -> dict[str, Any]:
    """A form as a browser sends it: a project and one more mount, everything in order."""
    factories.agent_smith()
    typed = {
        "class_slug": "agent-smith",
        "runtime": "shell",
        "cpus": "1.5",
        "memory_gb": "1",
        "pids": "256",
        "environment": f"ANTHROPIC_API_KEY={SECRET}\r\n# a note\r\nMODE= fast ",
        "mounts-count": "2",
        "mounts-0-source": "/home/alice/project",
        "mounts-0-destination": "/workspace/project",
        "mounts-0-mode": "rw",
        "mounts-1-source": "/srv/reference",
        "mounts-1-destination": "/workspace/reference",
        "mounts-1-mode": "ro",
    }
    return typed | {name.replace("__", "-"): value for name, value in changed.items()}


def lost(page: Page, typed: dict[str, Any]) -> list[str]:
    """Names of fields that no longer hold what was typed."""
    same = {
        name: value.replace("\r\n", "\n") for name, value in typed.items() if name not in ("add_mount", "remove_mount")
    }
    return [name for name, value in same.items() if page.field(name).replace("\r\n", "\n") != value]


def test_a_launch_is_asked_for_as_typed(at_page: AtPage, alice: User, linked: HostAccount, runner: ToldRunner) -> None:
    answer = at_page(alice).post("/launch", form())
    operation = Operation.objects.get()
    agent = Agent.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == f"/agents/{agent.key}"
    assert (agent.runtime, agent.cpus, agent.memory, agent.pids) == ("shell", 1.5, GIB, 256)
    assert operation.request["mounts"] == [
        {"source": "/home/alice/project", "destination": "/workspace/project", "mode": "rw"},
        {"source": "/srv/reference", "destination": "/workspace/reference", "mode": "ro"},
    ]
    assert runner.secrets == {operation.pk: {"ANTHROPIC_API_KEY": SECRET, "MODE": " fast "}} or runner.secrets == {
        operation.pk: {"ANTHROPIC_API_KEY": SECRET, "MODE": " fast"}
    }


def test_an_empty_destination_is_the_usual_one_and_empty_rows_do_not_count(
    at_page: AtPage, alice: User, linked: HostAccount
) -> None:
    typed = form(mounts__0__destination="", mounts__1__source="", mounts__1__destination="", environment="")
    assert at_page(alice).post("/launch", typed).status_code == 302
    assert Operation.objects.get().request["mounts"] == [
        {"source": "/home/alice/project", "destination": "/workspace/project", "mode": "rw"}
    ]


def test_the_empty_form_is_ready_to_send(at_page: AtPage, alice: User, linked: HostAccount) -> None:
    page = page_of(at_page(alice).get("/launch"))
    assert page.field("class_slug") == "agent-smith"
    assert page.field("mounts-0-mode") == "rw"
    limits = selectors.machine_limits()
    assert 0 < float(page.field("cpus")) <= limits.cpus
    assert 0 < float(page.field("memory_gb")) <= limits.memory_gb
    assert page.field("environment") == ""
    assert page.all("textarea")[0]["autocomplete"] == "off"


LIMITS = selectors.machine_limits()
BAD: list[tuple[str, dict[str, Any], str]] = [  # field, what is typed, part of its message
    ("class_slug", {"class_slug": "no-such-class"}, "no-such-class"),
    ("class_slug", {"class_slug": ""}, "Choose a class"),
    ("runtime", {"runtime": "emacs"}, "emacs"),
    ("cpus", {"cpus": "many"}, "Give a number"),
    ("cpus", {"cpus": "nan"}, "Give a number"),
    ("cpus", {"cpus": str(LIMITS.cpus + 1)}, str(LIMITS.cpus)),
    ("cpus", {"cpus": ""}, "Give a number"),
    ("memory_gb", {"memory_gb": "1000000"}, f"{LIMITS.memory_gb:g}"),
    ("memory_gb", {"memory_gb": "-1"}, "not possible"),
    ("pids", {"pids": "12.5"}, "whole number"),
    ("pids", {"pids": "99999999999999999999"}, "not possible"),
    ("environment", {"environment": f"no equals\nA={SECRET}"}, "Line 1"),
    ("environment", {"environment": f"LD_PRELOAD={SECRET}"}, "LD_PRELOAD"),
    ("mounts-0-source", {"mounts__0__source": ""}, "Give a path"),
    ("mounts-0-source", {"mounts__0__source": "src/project"}, "relative"),
    ("mounts-0-source", {"mounts__0__source": "/home/alice/../root"}, ".."),
    ("mounts-0-source", {"mounts__0__source": "/"}, "cannot be mounted"),
    ("mounts-0-source", {"mounts__0__source": "/etc"}, "/etc"),
    ("mounts-0-source", {"mounts__0__source": "/run/user/1004"}, "/run"),
    ("mounts-0-source", {"mounts__0__source": "/tmp"}, "shared by everybody"),
    ("mounts-1-source", {"mounts__1__source": "/var/lib/jackin-web/engine"}, "this service"),
    ("mounts-0-source", {"mounts__0__source": "/home/a\x1blice"}, "control characters"),
    ("mounts-1-destination", {"mounts__1__destination": "/srv/a\x00b"}, "control characters"),
    ("mounts-0-source", {"mounts__0__source": "/" + "x" * 9999}, "10000"),
    ("mounts-1-destination", {"mounts__1__destination": "/workspace/project"}, "already"),
    ("mounts-1-destination", {"mounts__1__destination": "/etc/x"}, "/etc"),
    ("mounts-1-destination", {"mounts__1__destination": "workspace"}, "relative"),
]


@pytest.mark.parametrize(("field", "typed", "part"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_told_at_its_field_and_loses_nothing(
    at_page: AtPage, alice: User, linked: HostAccount, field: str, typed: dict[str, Any], part: str
) -> None:
    sent = form(**typed)
    page = page_of(at_page(alice).post("/launch", sent))
    assert part in page.error_of(field)
    chosen_from_a_list = {"class_slug", "runtime"} & set(typed)
    assert lost(page, {name: value for name, value in sent.items() if name not in chosen_from_a_list}) == []
    assert not Operation.objects.exists()
    assert SECRET not in "".join(
        e.text for e in page.elements if e.tag != "textarea" and e["class"].startswith("error")
    )


BROKER = [
    ("missing", "source", "/home/alice/project does not exist."),
    ("not-a-directory", "source", "/home/alice/project is a file."),
    ("link-elsewhere", "source", "/home/alice/project is a link to /srv/x; give /srv/x itself."),
    ("not-readable", "source", "alice may not read /home/alice/project."),
    ("submounts", "source", "Another file system is mounted below /home/alice/project."),
    ("destination-bad", "destination", "/workspace/project cannot be a destination."),
]


@pytest.mark.parametrize(("code", "part", "message"), BROKER)
def test_what_the_broker_says_stands_at_the_mount(
    at_page: AtPage, alice: User, linked: HostAccount, runner: ToldRunner, code: str, part: str, message: str
) -> None:
    runner.problems["/srv/reference"] = MountProblem(code=code, message=message)
    sent = form()
    page = page_of(at_page(alice).post("/launch", sent))
    assert page.error_of(f"mounts-1-{part}") == message
    assert lost(page, sent) == []
    assert any(link["href"] == f"#mounts-1-{part}" for link in page.all("a"))


def test_an_error_meets_its_row_though_an_empty_row_stands_before_it(
    at_page: AtPage, alice: User, linked: HostAccount
) -> None:
    sent = form(mounts__count="3", mounts__1__source="", mounts__1__destination="")
    sent |= {"mounts-2-source": "relative", "mounts-2-destination": "/workspace/r", "mounts-2-mode": "ro"}
    page = page_of(at_page(alice).post("/launch", sent))
    assert page.field("mounts-1-source") == "relative"
    assert "relative" in page.error_of("mounts-1-source")


def test_a_row_is_added_and_removed_without_script(at_page: AtPage, alice: User, linked: HostAccount) -> None:
    client = at_page(alice)
    sent = form(add_mount="1", cpus="not a number yet")
    page = page_of(client.post("/launch", sent))
    assert lost(page, sent | {"mounts-count": "3"}) == []
    assert page.field("mounts-2-source") == ""
    page = page_of(client.post("/launch", form(remove_mount="1")))
    assert page.field("mounts-count") == "1"
    assert page.field("mounts-0-source") == "/home/alice/project"
    assert SECRET in page.field("environment")
    page = page_of(client.post("/launch", form(remove_mount="0")))
    assert page.field("mounts-count") == "2"  # the project stays


@pytest.mark.parametrize("count", ["", "-1", "0", "999999999999999999999", "x", "100000"])
def test_a_forged_number_of_rows_does_no_harm(at_page: AtPage, alice: User, linked: HostAccount, count: str) -> None:
    answer = at_page(alice).post("/launch", form(mounts__count=count, mounts__0__source="relative"))
    assert answer.status_code == 200
    assert "relative" in page_of(answer).error_of("mounts-0-source")


def test_foreign_characters_are_shown_not_obeyed(at_page: AtPage, alice: User, linked: HostAccount) -> None:
    html = html_of(at_page(alice).post("/launch", form(mounts__0__source="x/\u202egnp.<b>")))
    assert '<span class="odd">\\u202e</span>' in html
    assert "gnp.<b>" not in html


def test_launch_again_fills_in_everything_but_the_secrets(at_page: AtPage, alice: User, linked: HostAccount) -> None:
    client = at_page(alice)
    client.post("/launch", form())
    answer = client.get(f"/launch?from={Operation.objects.get().pk}")
    page = page_of(answer)
    assert lost(page, form(environment="")) == []
    assert SECRET not in html_of(answer)
    assert "type them again" in html_of(answer)


def test_a_silent_runner_is_said_and_launches_nothing(
    at_page: AtPage, alice: User, linked: HostAccount, runner: ToldRunner
) -> None:
    runner.silent = True
    sent = form()
    answer = at_page(alice).post("/launch", sent)
    assert "does not answer" in html_of(answer)
    assert lost(page_of(answer), sent) == []
    assert not Operation.objects.exists()


def test_without_a_unix_account_the_page_says_who_links_it(at_page: AtPage, stranger: User) -> None:
    html = html_of(at_page(stranger).get("/launch"))
    assert "host link stranger ACCOUNT" in html


def test_the_preview_speaks_of_what_is_typed_and_never_of_secrets(
    at_page: AtPage, alice: User, linked: HostAccount
) -> None:
    html = html_of(at_page(alice).post("/launch/preview", form()))
    page = Page(html)
    sentences = [e.text.split() for e in page.all("li")]
    assert ["Read", "and", "write", "/home/alice/projectas", "alice"] in sentences
    assert any(s[:2] == ["Write", "to"] and "/srv/reference" in s for s in sentences)
    assert SECRET not in html
    assert "environment" in page_of(at_page(alice).get("/launch")).all("form", class_="form")[0]["hx-params"]
