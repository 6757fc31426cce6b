"""Whoever has taken over daphne and writes any row, or replaces the database itself, gets what the rules allow."""

from __future__ import annotations

import json
import pathlib
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.agents import container_of
from tests.support.fixtures import Person, logged_in, running_agent
from tests.support.machine import Traces, docker, run, same_traces
from tests.support.service import Service, wait_for
from tests.support.takeover import Forger, as_pages
from tests.support.takeover_programs import ASK
from tests.support.web import WebClient


@pytest.fixture(scope="module")
def forger(service: Service) -> Iterator[Forger]:
    made = Forger(instance=service.instance)
    yield made
    made.tidy()


def test_the_runner_lists_and_mounts_nothing_for_who_is_not_linked(
    service: Service, forger: Forger, owner: Person, colleague: Person
) -> None:
    """Names of Unix accounts, root's too, become web users by a forged row, and links by a forged mirror."""
    forged = ["root", colleague.account, "daemon", "jackin-run"]
    for name in forged:
        forger.copy("agents_user", where=f"username = '{owner.name}'", username=name, is_superuser=1, is_staff=1)
        forger.insert(
            "agents_hostaccount", user_id=forger.user(name), account=name, uid=0, how="forged", linked_at="2026-01-01"
        )
    try:
        mount = {"destination": "/workspace/x", "mode": "ro"}
        places = ["/etc", "/root", colleague.home.as_posix(), owner.home.as_posix(), str(service.instance.keys), "/"]
        asked = [
            {"op": "check_mounts", "user": name, "mounts": [mount | {"source": place} for place in places]}
            for name in [*forged, "nobody-of-that-name", "", "alice\0", None, 0, ["root"], {"x": 1}]
        ]
        asked += [
            {"op": op, "v": 1, "web_user": "root", "account": "root", "path": "/root", "launch": "0" * 32, "mounts": []}
            for op in ("list", "stage", "link", "identity", "links", "admit", "release", "staged")
        ]
        stage = sorted(service.instance.stage.iterdir())
        answers = as_pages(ASK, str(service.instance.runner_socket), text=json.dumps(asked))
        assert len(answers) == len(asked)
        for request, answer in zip(asked, answers, strict=True):
            assert answer["ok"] is False, (request, answer)
            assert answer.keys() == {"ok", "code", "message", "remedy", "index"}, request
        assert sorted(service.instance.stage.iterdir()) == stage
        good = as_pages(
            ASK,
            str(service.instance.runner_socket),
            text=json.dumps([{"op": "check_mounts", "user": owner.name, "mounts": [mount | {"source": places[3]}]}]),
        )
        assert good[0]["results"][0]["ok"] is True  # the limit that is said bluntly: linked accounts may be used
        theirs = as_pages(
            ASK,
            str(service.instance.runner_socket),
            text=json.dumps([{"op": "check_mounts", "user": owner.name, "mounts": [mount | {"source": places[2]}]}]),
        )
        assert theirs[0]["results"][0]["ok"] is False
    finally:
        for name in forged:
            forger.sql(
                ("DELETE FROM agents_hostaccount WHERE user_id = ?", [forger.user(name)]),
                ("DELETE FROM agents_user WHERE username = ?", [name]),
            )


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_replaces_the_database_is_not_opened_and_the_runner_goes_on(
    service: Service, kind: str, forger: Forger
) -> None:
    """The account of the pages owns the directory, so it can put anything there; and take it away again."""
    database, target = service.instance.database, service.instance.web / "elsewhere"
    runner = service.child("runner")
    program = (
        "import json, os, sys\n"
        "kind, database, target = sys.argv[1:]\n"
        "for end in ('', '-wal', '-shm'):\n"
        "    os.path.lexists(database + end) and os.rename(database + end, database + '.aside' + end)\n"
        "{'link': lambda: os.symlink(target, database), 'pipe': lambda: os.mkfifo(database, 0o666),\n"
        " 'directory': lambda: os.mkdir(database)}[kind]()\n"
        "print(json.dumps(sorted(os.listdir(os.path.dirname(database)))))"
    )
    back = (
        "import json, os, sys\n"
        "kind, database, target = sys.argv[1:]\n"
        "(os.rmdir if kind == 'directory' else os.unlink)(database)\n"
        "for end in ('', '-wal', '-shm'):\n"
        "    os.path.lexists(database + '.aside' + end) and os.rename(database + '.aside' + end, database + end)\n"
        "print(json.dumps(os.path.lexists(target)))"
    )
    ask = json.dumps([{"op": "check_mounts", "user": "alice", "mounts": []}, {"op": "engine_status"}])
    words = (kind, str(database), str(target))
    assert "db.sqlite3" in as_pages(program, *words)
    try:
        refused, status = as_pages(ASK, str(service.instance.runner_socket), text=ask)
        assert (refused["ok"], refused["code"]) == (False, "unavailable")
        assert status["engine"] is True  # it hangs nowhere
        second = run_serve(service)
    finally:
        made = as_pages(back, *words)
    assert made is False  # nothing was created through the link
    assert second[0] == 1
    assert str(database) in second[1]
    assert service.child("runner") == runner
    assert forger.user("operator") > 0
    assert "is not opened" in (service.instance.logs / "runner.log").read_text()


def run_serve(service: Service) -> tuple[int, str]:
    """A second `./scripts/serve` of the same instance; its exit code and what it said."""
    done = subprocess.run(
        ["./scripts/serve"], cwd=service.clone, env=service.environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(owner: Person) -> pathlib.Path:
    """A directory that its owner may mount, so that nothing but the forgery is wrong."""
    place = owner.home / "forged"
    run("install", "-d", "-o", owner.account, "-g", owner.account, "-m", "0755", str(place))
    return place


@pytest.fixture(scope="module")
def neighbour(service: Service, colleague: Person) -> Iterator[str]:
    """A running agent of bob's, which no forged row of somebody else may touch."""
    place = colleague.directory("neighbour")
    with running_agent(service, colleague, place, "/workspace/neighbour") as key:
        yield key


def mount(source: object, destination: str = "/workspace/x", mode: str = "ro") -> dict[str, Any]:
    return {"source": str(source), "destination": destination, "mode": mode}


def test_a_forged_row_that_keeps_the_rules_is_what_the_attacker_can_have(
    service: Service, forger: Forger, owner: Person, project: pathlib.Path
) -> None:
    """The control: such a row does start an agent, for a linked account and its own directory."""
    launch = forger.launch(owner=owner.name, mounts=[mount(project)])
    assert launch.end(seconds=90)[0] == "succeeded"
    assert container_of(service.instance, launch.key)
    web = WebClient(service)
    web.log_in(owner.name, owner.password)
    web.eject(launch.key)
    assert container_of(service.instance, launch.key) == ""


def test_forged_launches_are_refused_recorded_and_leave_nothing(
    service: Service, forger: Forger, owner: Person, colleague: Person, project: pathlib.Path, neighbour: str
) -> None:
    forger.copy("agents_user", where=f"username = '{owner.name}'", username="mallory", is_superuser=1)
    forger.copy("agents_agentclass", where="slug = 'agent-smith'", slug="evil", source="builtin:../../x")
    evil = forger.one("SELECT id FROM agents_agentclass WHERE slug = 'evil'")
    good, name = [mount(project)], owner.name
    cases: dict[str, dict[str, Any]] = {
        "the system's configuration": {"owner": name, "mounts": [mount("/etc")]},
        "root's home": {"owner": name, "mounts": [mount("/root")]},
        "another user's home": {"owner": name, "mounts": [mount(colleague.home)]},
        "the keys": {"owner": name, "mounts": [mount(service.instance.keys)]},
        "the code": {"owner": name, "mounts": [mount(service.instance.code)]},
        "a parent of ours": {"owner": name, "mounts": [mount("/var/lib")]},
        "dots": {"owner": name, "mounts": [mount(f"{project}/../../../etc")]},
        "a place over the gate": {"owner": name, "mounts": [mount(project, "/run/jackin/gate")]},
        "a place over the system": {"owner": name, "mounts": [mount(project, "/usr")]},
        "nobody linked": {"owner": "mallory", "mounts": good},
        "somebody else's agent": {"owner": colleague.name, "asked_by": name, "mounts": good},
        "a class from elsewhere": {
            "owner": name, "mounts": good, "a_agent_class_id": evil, "a_name": f"jackin-{name}-evil",
        },
        "all memory": {"owner": name, "mounts": good, "a_memory": 2**60},
        "no memory limit": {"owner": name, "mounts": good, "a_memory": 0},
        "all processors": {"owner": name, "mounts": good, "a_cpus": 4096.0},
        "no process limit": {"owner": name, "mounts": good, "a_pids": 0},
        "another program": {"owner": name, "mounts": good, "a_runtime": "claude; id"},
        "another's name": {"owner": name, "mounts": good, "a_name": "jackin-bob-agent-smith-clone-77"},
        "a key that is a path": {"owner": name, "mounts": good, "a_key": "../../etc"},
        "an expired lease of ours": {
            "owner": name, "mounts": [mount("/etc")], "state": "running", "attempt": 2,
            "lease_owner": f"{service.child('runner')}.1.x", "lease_until": "2020-01-01 00:00:00",
        },
        "worn out": {"owner": name, "mounts": good, "attempt": 9},
    }  # fmt: skip
    before = Traces.of(service.instance)
    try:
        launches = {what: forger.launch(**case) for what, case in cases.items()}
        for what, launch in launches.items():
            state, step, error = launch.end()
            assert (state, bool(error)) == ("failed", True), (what, state, step, error)
            assert step in {"identity", "mounts", "image", ""}, (what, step, error)
            text = "SELECT count(*) FROM agents_mountgrant g JOIN agents_agent a ON a.id = g.agent_id WHERE a.key = ?"
            assert forger.one(text, launch.key) == 0, what
            assert forger.one("SELECT count(*) FROM agents_auditevent WHERE operation_id = ?", launch.operation), what
        same_traces(service.instance, before)
        assert container_of(service.instance, neighbour)
    finally:
        forger.sql(("UPDATE agents_agentclass SET enabled = 0 WHERE slug = 'evil'", []))


def test_an_agent_of_another_is_neither_ejected_nor_launched_again(
    service: Service, forger: Forger, owner: Person, project: pathlib.Path, neighbour: str
) -> None:
    container = container_of(service.instance, neighbour)
    eject = forger.eject(neighbour, asked_by=owner.name)
    state, _, error = eject.end()
    assert (state, "Only the owner" in error) == ("failed", True)
    again = forger.operation(neighbour, kind="launch", asked_by=owner.name, mounts=[mount(project)])
    assert again.end()[0] == "failed"
    assert container_of(service.instance, neighbour) == container
    assert docker(service.instance, "inspect", "--format", "{{.State.Running}}", container).strip() == "true"
    assert forger.one("SELECT state FROM agents_agent WHERE key = ?", neighbour) == "running"


def test_an_operation_that_a_living_process_seems_to_hold_is_left_alone_and_holds_up_nothing(
    service: Service, forger: Forger, owner: Person, project: pathlib.Path
) -> None:
    pid = service.child("runner")
    started = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    foreign = forger.launch(
        owner=owner.name, mounts=[mount("/etc")], state="running", attempt=1,
        lease_owner=f"{pid}.{started}.forged", lease_until="2099-01-01 00:00:00",
    )  # fmt: skip
    nested = "[" * 1500 + "]" * 1500  # SQLite takes it, Python does not
    poison = forger.launch(owner=owner.name, mounts=[mount(project)], request=f'{{"mounts": {nested}}}')
    other = forger.launch(owner=owner.name, mounts=[mount("/etc")])
    assert other.end()[0] == "failed"
    assert poison.end()[0] == "failed"
    assert foreign.state()[0] == "running"
    web = logged_in(service, owner)
    for path in (
        "/",
        "/?show=failed",
        "/operations",
        f"/agents/{poison.key}",
        f"/operations/{uuid.UUID(poison.operation)}",
    ):
        assert web.get(path).status_code == 200, path  # one row that cannot be read closes no page
    forger.sql(("UPDATE agents_operation SET lease_until = '2020-01-01 00:00:00' WHERE id = ?", [foreign.operation]))
    assert wait_for("the runner to take it", lambda: foreign.state()[0] == "failed")
