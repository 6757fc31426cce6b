"""A hundred thousand hostile messages to each listening socket of the running service: refused, nothing is worse."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from agents.broker import wire
from agents.host.instance import USER_RUN, USER_WEB
from agents.operations.runner_socket import AT_ONCE
from agents.operations.workers import THREADS
from agents.terminals.feed import MOST_RUNNERS
from agents.terminals.protocol import FrameDecoder, control_frame
from tests.support.fixtures import Person
from tests.support.fuzz import connect
from tests.support.service import ROOT, Service, wait_for

pytestmark = pytest.mark.timeout(300)

MESSAGES = 100_000
PROCESSES = 3
SEED = 20_261
SECONDS = 240  # a tenth of it where nothing else runs
MOST_THREADS = AT_ONCE + THREADS + 4  # of the runner, each with a connection to the database
MOST_GROWTH = 24 * 2**20  # bytes of memory that a process may have more afterwards: arenas, not messages


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """What must be the same afterwards."""

    pid: int
    descriptors: dict[str, int]  # how many to what kind of thing
    memory: int

    @classmethod
    def of(cls, service: Service, part: str) -> State:
        pid = service.child(part)
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        (line,) = [one for one in status.splitlines() if one.startswith("VmRSS")]
        goals = []
        for one in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                goals.append(os.readlink(one).partition(":")[0])
        return cls(pid=pid, descriptors=dict(collections.Counter(goals)), memory=int(line.split()[1]) * 1024)


def fuzz(name: str, path: pathlib.Path, user: str) -> collections.Counter[str]:
    """Send MESSAGES from several processes at once; what happened in all."""
    command = [sys.executable, "-m", "tests.support.fuzz", name, str(path), user]
    each = -(-MESSAGES // PROCESSES)
    running = [
        subprocess.Popen([*command, str(SEED + n), str(each)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(PROCESSES)
    ]
    total: collections.Counter[str] = collections.Counter()
    try:
        for one in running:
            said, error = one.communicate(timeout=SECONDS)
            assert one.returncode == 0, error.decode()[-3000:]
            total.update(json.loads(said))
    finally:
        for one in running:
            one.kill()
    print(dict(total))
    return total


def more(service: Service, part: str, before: State) -> dict[str, int]:
    """The descriptors that `part` has more than before; those of the database come and go with its threads.

    Each thread of the runner that asks the engine keeps a connection to it for the next time.
    """
    pooled = AT_ONCE if part == "runner" else 0
    now = State.of(service, part).descriptors
    ours = str(service.instance.database)
    return {
        goal: count
        for goal, count in now.items()
        if count > before.descriptors.get(goal, 0) + (pooled if goal == "socket" else 0)
        and not (goal.startswith(ours) and count <= MOST_THREADS)
    }


def attack(service: Service, name: str, *, part: str, path: pathlib.Path, user: str, good: Callable[[], bool]) -> None:
    """Before, the messages, after: the same process with as many descriptors, no more memory, and good manners."""
    before, staged = State.of(service, part), sorted(service.instance.stage.iterdir())
    assert good()
    total = fuzz(name, path, user)
    assert total["sent"] >= MESSAGES
    assert total["refused"] + total["closed"] > MESSAGES / 10
    assert good()
    try:
        wait_for("no more descriptors than before", lambda: not more(service, part, before))
    except AssertionError as error:
        raise AssertionError(f"{error}: {more(service, part, before)}, before {before.descriptors}") from None
    after = State.of(service, part)
    assert after.pid == before.pid
    assert after.memory - before.memory < MOST_GROWTH
    assert sorted(service.instance.stage.iterdir()) == staged


def test_the_broker_survives(service: Service) -> None:
    path = service.instance.broker_socket
    attack(service, "broker", part="broker", path=path, user=USER_RUN, good=lambda: ok(path, v=1, op="links"))


def test_the_guard_survives(service: Service) -> None:
    path = service.instance.guard_socket
    attack(service, "guard", part="guard", path=path, user=USER_RUN, good=lambda: ok(path, v=1, op="network_ready"))


def test_the_runner_survives(service: Service, owner: Person) -> None:
    path = service.instance.runner_socket
    attack(service, "runner", part="runner", path=path, user=USER_WEB, good=lambda: ok(path, op="engine_status"))


def test_the_terminals_survive_their_windows(service: Service) -> None:
    path = service.instance.terminals_socket
    attack(service, "terminals", part="terminals", path=path, user=USER_WEB, good=lambda: opens(path))


def test_the_terminals_survive_their_feed(service: Service) -> None:
    path, windows = service.instance.feed_socket, service.instance.terminals_socket

    def good() -> bool:
        """The feed says hello and windows open; then the runner, which was pushed aside, is made to come back."""
        with contextlib.ExitStack() as opened:
            client = opened.enter_context(connect(str(path), socket.SOCK_SEQPACKET))
            client.send(b'{"op": "hello"}')
            said = json.loads(client.recv(65536))
            for _ in range(MOST_RUNNERS):
                opened.enter_context(connect(str(path), socket.SOCK_SEQPACKET))
            return said["event"] == "streams" and opens(windows)

    attack(service, "feed", part="terminals", path=path, user=USER_RUN, good=good)


def opens(path: pathlib.Path) -> bool:
    """Whether a window onto an agent opens."""
    with connect(str(path), socket.SOCK_STREAM) as client:
        client.sendall(control_frame({"attach": "f" * 32, "viewer": "good", "rows": 24, "columns": 80}))
        (first, *_) = FrameDecoder().feed(client.recv(65536))
        return isinstance(first, dict) and first["ready"] is True


def ok(path: pathlib.Path, **request: object) -> bool:
    """Whether a good request is answered."""
    return wire.call(path, request, timeout=15)["ok"] is True
