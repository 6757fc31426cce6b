"""Whoever has taken over daphne: programs that run with exactly its rights, and rows written past every rule."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import uuid
from typing import Any

from agents.host.instance import USER_WEB, Instance
from agents.host.shell import as_user
from tests.support.service import wait_for
from tests.support.takeover_programs import SQL

SECONDS = 110
NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"


def as_pages(program: str, *arguments: str, text: str = "", user: str = USER_WEB) -> Any:
    """Run a Python program as `user` with the groups and the limits that `serve` gives daphne; the JSON it prints."""
    command = as_user(user, ["/usr/bin/python3", "-I", "-c", program, *arguments], umask=0o007)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd="/", timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forger:
    """Writes rows into the live database as `jackin-web`, through SQLite itself: no model and no rule sees them."""

    instance: Instance
    agents: list[Any] = dataclasses.field(default_factory=list)  # keys of what was forged
    operations: list[Any] = dataclasses.field(default_factory=list)
    states: list[Any] = dataclasses.field(default_factory=list)  # keys

    def tidy(self) -> None:
        """Take away what was forged: pages of people who share the service go on."""
        keys, ids = ", ".join("?" for _ in self.agents), ", ".join("?" for _ in self.operations)
        forged = f"(SELECT id FROM agents_agent WHERE key IN ({keys}))"
        works = f"(SELECT id FROM agents_operation WHERE id IN ({ids}) OR agent_id IN {forged})"
        both = [*self.operations, *self.agents]
        self.sql(
            (f"DELETE FROM agents_operationstep WHERE operation_id IN {works}", both),
            (f"DELETE FROM agents_operationlog WHERE operation_id IN {works}", both),
            (f"DELETE FROM agents_mountgrant WHERE agent_id IN {forged}", self.agents),
            (f"DELETE FROM agents_operation WHERE id IN {works}", both),
            (f"DELETE FROM agents_agent WHERE id IN {forged}", self.agents),
            (f"DELETE FROM agents_agentstate WHERE key IN ({', '.join('?' for _ in self.states)})", self.states),
        )

    def sql(self, *statements: tuple[str, list[Any]]) -> list[list[list[Any]]]:
        """Run the statements in one transaction; the rows of each."""
        found: list[list[list[Any]]] = as_pages(SQL, str(self.instance.database), text=json.dumps(statements))
        return found

    def one(self, text: str, *values: Any) -> Any:
        """The only value of the only row."""
        ((row,),) = self.sql((text, list(values)))
        return row[0]

    def user(self, name: str) -> int:
        """The id of a web user."""
        return int(self.one("SELECT id FROM agents_user WHERE username = ?", name))

    def insert(self, table: str, **values: Any) -> None:
        """A row, as it is."""
        names, places = ", ".join(values), ", ".join("?" for _ in values)
        self.sql((f"INSERT INTO {table} ({names}) VALUES ({places})", list(values.values())))

    def copy(self, table: str, *, where: str, **changed: Any) -> None:
        """A row like the one that `where` finds, with other values in the columns of `changed`."""
        columns = [row[1] for row in self.sql((f"PRAGMA table_info({table})", []))[0]]
        wanted = [name for name in columns if name != "id" or "id" in changed]
        values = ", ".join("?" if name in changed else name for name in wanted)
        text = f"INSERT INTO {table} ({', '.join(wanted)}) SELECT {values} FROM {table} WHERE {where} LIMIT 1"
        self.sql((text, [changed[name] for name in wanted if name in changed]))

    def launch(
        self, *, owner: str, mounts: list[dict[str, Any]], asked_by: str | None = None, **changed: Any
    ) -> Launch:
        """A forged agent and its launch, queued for the runner. `changed` are columns of agent (`a_…`) or operation."""
        key, operation = uuid.uuid4().hex, uuid.uuid4().hex
        now = self.one(f"SELECT {NOW}")
        agent = {
            "key": key, "name": f"jackin-{owner}-agent-smith-clone-{int(key[:4], 16) + 2}",
            "owner_id": self.user(owner),
            "agent_class_id": self.one("SELECT id FROM agents_agentclass WHERE slug = 'agent-smith'"),
            "runtime": "shell", "state": "starting",
            "workdir": mounts[0]["destination"] if mounts else "/workspace/x",
            "cpus": 1.0, "memory": 2**31, "pids": 512, "image": "", "container_id": "", "created_at": now,
            "end_reason": "", "sidecar": "none",
        } | {name[2:]: value for name, value in changed.items() if name.startswith("a_")}  # fmt: skip
        row = {
            "id": operation, "kind": "launch", "requested_by_id": self.user(asked_by or owner),
            "request": json.dumps({"mounts": mounts}), "state": "queued", "step": "", "lease_owner": "", "attempt": 0,
            "cancel_requested": 0, "error": "", "remedy": "", "failed_step": "", "secrets_needed": 0, "created_at": now,
        } | {name: value for name, value in changed.items() if not name.startswith("a_")}  # fmt: skip
        state = {
            "key": uuid.uuid4().hex, "name": agent["name"], "owner_id": agent["owner_id"],
            "agent_class_id": agent["agent_class_id"], "phase": "kept", "created_at": now,
        }  # fmt: skip
        self.insert("agents_agentstate", **state)
        self.states.append(state["key"])
        kept = self.one("SELECT id FROM agents_agentstate WHERE key = ?", state["key"])
        agent, row = {"agent_state_id": kept} | agent, {"agent_state_id": kept} | row
        names, more = ", ".join(agent), ", ".join(row)
        found = f"(SELECT id FROM agents_agent WHERE key = '{agent['key']}')"
        self.sql(
            (f"INSERT INTO agents_agent ({names}) VALUES ({', '.join('?' for _ in agent)})", list(agent.values())),
            (
                f"INSERT INTO agents_operation ({more}, agent_id) VALUES ({', '.join('?' for _ in row)}, {found})",
                list(row.values()),
            ),
        )
        self.agents.append(agent["key"])
        self.operations.append(row["id"])
        return Launch(forger=self, key=agent["key"], operation=row["id"])

    def operation(self, key: str, *, kind: str, asked_by: str, mounts: list[dict[str, Any]] | None = None) -> Launch:
        """A forged operation on an agent that is there."""
        agent = self.one("SELECT id FROM agents_agent WHERE key = ?", key)
        identity = uuid.uuid4().hex
        self.insert(
            "agents_operation", id=identity, kind=kind, agent_id=agent, requested_by_id=self.user(asked_by),
            request=json.dumps({"mounts": mounts or []}), state="queued", step="", lease_owner="", attempt=0,
            cancel_requested=0, error="", remedy="", failed_step="", secrets_needed=0,
            created_at=self.one(f"SELECT {NOW}"),
        )  # fmt: skip
        self.operations.append(identity)
        return Launch(forger=self, key=key, operation=identity)

    def eject(self, key: str, *, asked_by: str) -> Launch:
        """A forged eject."""
        return self.operation(key, kind="eject", asked_by=asked_by)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """A forged operation; `end` waits for what the runner makes of it."""

    forger: Forger
    key: str
    operation: str

    def state(self) -> tuple[str, str, str]:
        """State, step that failed, and error of the operation."""
        text = "SELECT state, failed_step, error FROM agents_operation WHERE id = ?"
        ((row,),) = self.forger.sql((text, [self.operation]))
        return row[0], row[1], row[2]

    def end(self, *, seconds: float = 30) -> tuple[str, str, str]:
        """State, failed step and error once it is over."""
        return wait_for(
            f"the end of the forged operation {self.operation}",
            lambda: found if (found := self.state())[0] not in {"queued", "running"} else None,
            seconds=seconds,
        )
