"""An agent that takes all it can get of what the kernel counts, as claude and as 200 users, harms nobody else."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import subprocess
from collections.abc import Iterator, Mapping

import pytest

from agents.broker.counters import COUNTERS, SOCKET_BYTES, TERMINALS
from tests.support import takes
from tests.support.agents import container_of, execute
from tests.support.fixtures import Person
from tests.support.machine import run
from tests.support.service import Service
from tests.support.web import WebClient

SOURCE = pathlib.Path(takes.__file__).read_text()
MEMORY_GB = 2
INSTANCES = COUNTERS["max_inotify_instances"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
    """`workers` processes take `times` each; `taken` is what all of them must get: least and most.

    `shared` are the needs in which another agent does notice it: a limit that docs/security.md states.
    """

    resource: str
    workers: int = 1
    times: int
    taken: tuple[int, int]
    shared: frozenset[str] = frozenset()


# What claude can do alone.
AS_CLAUDE = [
    Attack(resource="inotify", times=1000, taken=(INSTANCES, INSTANCES)),
    Attack(resource="fanotify", times=10, taken=(0, 0)),
    Attack(resource="namespaces", times=10, taken=(0, 0)),
    Attack(resource="keys", times=10, taken=(0, 0)),
    Attack(resource="pids", times=1000, taken=(300, 512)),
    Attack(resource="files", workers=20, times=16000, taken=(320_000, 320_000)),
    Attack(resource="pipes", times=4000, taken=(4000, 4000)),
    Attack(resource="epoll", workers=8, times=700, taken=(5600, 5600)),
    Attack(resource="aio", times=140, taken=(140, 140)),
    Attack(resource="terminals", times=4000, taken=(TERMINALS - 8, TERMINALS)),
    Attack(resource="queues", times=100, taken=(0, 0)),
    Attack(resource="locked", times=1000, taken=(1, 1000)),
    Attack(resource="signals", times=200_000, taken=(1000, 200_000), shared=frozenset({"signals", "timers"})),
    Attack(resource="in_flight", times=300, taken=(50, 300), shared=frozenset({"in_flight"})),
    Attack(resource="unix", workers=4, times=1000, taken=(4000, 4000)),
    Attack(resource="tcp", workers=10, times=40, taken=(400, 400)),
    Attack(resource="udp", workers=20, times=20, taken=(400, 400)),
]
# What root of the container can do besides: be everybody.
AS_EVERYBODY = [
    Attack(resource="inotify", workers=200, times=1000, taken=(200 * INSTANCES, 200 * INSTANCES)),
    Attack(resource="watches", workers=50, times=400, taken=(20_000, 20_000)),
    Attack(resource="fanotify", workers=200, times=1, taken=(0, 0)),
    Attack(resource="namespaces", workers=200, times=1, taken=(0, 0)),
    Attack(resource="keys", workers=200, times=1, taken=(0, 0)),
    Attack(resource="pids", workers=200, times=10, taken=(200, 512)),
    Attack(resource="files", workers=200, times=13_000, taken=(2_600_000, 2_600_000)),
    Attack(resource="aio", workers=200, times=1, taken=(200, 200)),
    Attack(resource="terminals", workers=200, times=20, taken=(TERMINALS - 8, TERMINALS)),
    Attack(resource="queues", workers=200, times=1, taken=(0, 0)),
    Attack(resource="signals", workers=200, times=1000, taken=(1000, 200_000), shared=frozenset({"signals", "timers"})),
    Attack(resource="in_flight", workers=200, times=5, taken=(1000, 1000)),
    Attack(resource="tcp", workers=200, times=2, taken=(400, 400)),
]


def once(*needs: str) -> list[str]:
    """The words of an honest program."""
    return ["/usr/bin/python3", "-c", SOURCE, "--once", *needs]


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """The service, the agent that attacks, and those that must not notice it with what they can do at rest."""

    service: Service
    owner: WebClient
    hostile: str
    colleague: WebClient
    second: str
    at_rest: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def answers(self) -> dict[str, dict[str, str]]:
        """What each of the others gets of each resource now."""
        victim = ["setpriv", "--reuid=jackin-web", "--regid=jackin-web", "--clear-groups"]
        return {
            "root of the host": json.loads(run(*once(*takes.TAKES))),
            "the service": json.loads(run(*victim, *once(*takes.TAKES))),
            "the second agent": json.loads(execute(self.service.instance, self.second, *once(*takes.TAKES))),
        }

    @contextlib.contextmanager
    def attacked(self, attack: Attack, *, as_everybody: bool) -> Iterator[Mapping[str, object]]:
        """While the hostile agent holds what it took; yields what it says of it."""
        line = ["docker", "-H", f"unix://{self.service.instance.engine_socket}", "exec", "-i", "--user", "1000"]
        line += [container_of(self.service.instance, self.hostile), *(["sudo", "-n"] if as_everybody else [])]
        line += ["/usr/bin/python3", "-c", SOURCE, attack.resource, str(attack.workers), str(attack.times)]
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            told = process.stdout.readline()
            try:
                assert told.startswith(b"{"), (told + process.communicate(timeout=30)[0]).decode()
                yield json.loads(told)
            finally:
                process.stdin.close()
                process.wait(30)


@pytest.fixture(scope="module")
def world(service: Service, owner: Person, colleague: Person) -> Iterator[World]:
    clients, keys = [], []
    for person in (owner, colleague):
        run("install", "-d", "-o", person.account, "-g", person.account, str(person.home / "counted"))
        client = WebClient(service)
        client.log_in(person.name, person.password)
        mount = (str(person.home / "counted"), "/workspace/counted", "rw")
        keys.append(client.launch([mount], memory_gb=str(MEMORY_GB), pids="512", cpus="2"))
        clients.append(client)
    made = World(service=service, owner=clients[0], hostile=keys[0], colleague=clients[1], second=keys[1])
    made.at_rest.update(made.answers())
    yield made
    for client, key in zip(clients, keys, strict=True):
        client.eject(key)


def unharmed(world: World, attack: Attack) -> None:
    """Everybody else gets what they got at rest, and the pages answer."""
    now, rest = world.answers(), world.at_rest
    assert now["root of the host"] == rest["root of the host"]
    assert now["the service"] == rest["the service"]
    noticed = {name for name, said in rest["the second agent"].items() if now["the second agent"][name] != said}
    assert noticed <= attack.shared
    assert world.colleague.state(world.second) == "Running"


def test_at_rest_everybody_gets_what_they_need(world: World) -> None:
    """Else the comparisons below would show nothing."""
    root, service, agent = world.at_rest.values()
    assert set(root.values()) == {"ok"}
    assert {name for name, said in service.items() if said != "ok"} <= {"namespaces"}
    closed = {"fanotify": "EPERM", "namespaces": "EPERM", "keys": "EPERM", "queues": "EMFILE"}
    assert agent == {name: closed.get(name, "ok") for name in takes.TAKES}


def case(attack: Attack) -> str:
    return attack.resource


@pytest.mark.parametrize("attack", AS_CLAUDE, ids=case)
def test_claude_takes_all_of_it_and_nobody_else_notices(world: World, attack: Attack) -> None:
    with world.attacked(attack, as_everybody=False) as said:
        assert attack.taken[0] <= int(str(said["taken"])) <= attack.taken[1], said
        if attack.resource == "udp":
            assert datagram_bytes() < 2 * SOCKET_BYTES
        unharmed(world, attack)


@pytest.mark.parametrize("attack", AS_EVERYBODY, ids=case)
def test_200_users_take_all_of_it_and_nobody_else_notices(world: World, attack: Attack) -> None:
    with world.attacked(attack, as_everybody=True) as said:
        assert attack.taken[0] <= int(str(said["taken"])) <= attack.taken[1], said
        unharmed(world, attack)


def datagram_bytes() -> int:
    """What all UDP sockets of the machine hold."""
    found = re.search(r"^UDP: .* mem (\d+)$", pathlib.Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 4096


def test_a_new_agent_starts_while_another_holds_everything(world: World, colleague: Person) -> None:
    worst = {"inotify", "files", "aio", "terminals", "signals", "in_flight"}
    with contextlib.ExitStack() as stack:
        for attack in [one for one in AS_CLAUDE if one.resource in worst]:
            stack.enter_context(world.attacked(attack, as_everybody=False))
        key = world.colleague.launch([(str(colleague.home / "counted"), "/workspace/counted", "rw")])
        try:
            said = execute(world.service.instance, key, "sh", "-c", "sudo -n id -u && pwd")
            assert said.splitlines()[0] == "0", said
        finally:
            world.colleague.eject(key)
