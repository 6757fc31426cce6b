"""The runner as a whole: its socket, its streams, and that nobody else is let in."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from agents.broker import wire
from agents.engine.errors import EngineUnreachable
from agents.engine.fake import BANNER
from agents.engine.types import MountProblem, MountRequest
from agents.models import Agent, HostAccount, User
from agents.operations import gateway
from agents.operations.errors import Conflict, Refused, Unavailable
from agents.operations.launch import request_launch
from agents.operations.lifecycle import request_eject
from agents.operations.runner import Runner
from agents.operations.runner_service import RunnerService
from agents.operations.runner_socket import SocketServer, allowed_uids
from agents.operations.streams import Streams
from tests import factories
from tests.db.conftest import INODE, NOTHING, World
from tests.db.doubles import MemoryFeed
from tests.db.test_replay import wait_for


@pytest.fixture
def listener(tmp_path: pathlib.Path, settings: Any) -> Iterator[socket.socket]:
    settings.JACKIN_RUNNER_SOCKET = str(tmp_path / "runner.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(settings.JACKIN_RUNNER_SOCKET)
        made.listen(16)
        yield made


@contextlib.contextmanager
def serving(
    listener: socket.socket, answer: Callable[[Mapping[str, Any]], dict[str, Any]], **who: Any
) -> Iterator[None]:
    server = SocketServer(listener, answer=answer, uids=who.get("uids", {os.getuid()}))
    server.start()
    try:
        yield
    finally:
        server.stop()


@pytest.mark.django_db(transaction=True)
def test_from_the_form_to_the_terminal_and_back(world: World, listener: socket.socket, settings: Any) -> None:
    """Everything real but engine, broker and terminals: threads, socket, leases, watcher."""
    factories.agent_smith()
    alice, feed = factories.person("alice"), MemoryFeed()
    runner = Runner(world.engines, listener=listener, feed=feed)
    runner.server._uids = frozenset({os.getuid()})
    runner.start()
    try:
        operation = request_launch(alice, factories.launch_request(environment="TOKEN=hunter2"))
        key = operation.agent.key
        wait_for(lambda: Agent.objects.get(key=key).state == "running")
        assert world.broker.target.secrets[operation.id.hex] == {"TOKEN": "hunter2"}
        wait_for(lambda: key in feed.known)
        wait_for(lambda: HostAccount.objects.filter(user=alice).exists())
        request_eject(alice, key)
        wait_for(lambda: Agent.objects.get(key=key).state == "ended")
        assert world.objects() == NOTHING
        assert key not in feed.known
    finally:
        runner.stop()


@pytest.mark.django_db(transaction=True)
def test_streams_come_back_after_a_restart_of_terminals(world: World) -> None:
    alice, feed, ended = factories.person("alice"), MemoryFeed(), threading.Event()
    factories.agent_smith()
    factories.launch(alice)
    assert world.work().state == "succeeded"
    (agent,) = Agent.objects.all()
    feed.known["f" * 32] = b"of an agent that is over"
    streams = Streams(world.engines, feed=feed, ended=ended.set)
    streams.start()
    try:
        wait_for(lambda: feed.known == {agent.key: BANNER})
        assert feed.dropped == ["f" * 32]
        feed.known.clear()
        feed.told.put(None)  # terminals restarted: connection lost, nothing known there
        wait_for(lambda: feed.known == {agent.key: BANNER})
        feed.known.clear()
        feed.told.put({"event": "ended", "agent": agent.key})  # the engine restarted: only the stream ended
        wait_for(lambda: agent.key in feed.known)
        resized: list[dict[str, int]] = []
        world.engine.target.resize = lambda container, **size: resized.append(size)
        for size in ({"rows": 10, "columns": 20}, {"rows": 11, "columns": 20}):
            feed.told.put({"event": "resize", "agent": agent.key, **size})
        wait_for(lambda: len(resized) == 2)
        assert resized == [{"rows": 10, "columns": 20}, {"rows": 11, "columns": 20}]
        assert not ended.is_set()
        (container,) = world.engine.target.containers()
        world.end(container.id, exit_code=0)
        feed.told.put({"event": "ended", "agent": agent.key})
        assert ended.wait(timeout=10)
    finally:
        streams.stop()


@pytest.mark.django_db(transaction=True)
def test_a_stream_is_tried_again_while_the_engine_is_away(world: World) -> None:
    alice, feed = factories.person("alice"), MemoryFeed()
    factories.agent_smith()
    factories.launch(alice)
    world.work()
    (agent,) = Agent.objects.all()
    failed = threading.Event()
    world.engine.errors["attach"] = EngineUnreachable("away")
    world.engine.before["attach"] = failed.set
    streams = Streams(world.engines, feed=feed, ended=lambda: None)
    streams.start()
    try:
        assert failed.wait(timeout=10)
        world.engine.errors.clear()
        wait_for(lambda: agent.key in feed.known)
    finally:
        streams.stop()


class RecordingAnswer:
    def __init__(self, asked: list[object]) -> None:
        self.asked = asked

    def __call__(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        return {"ok": True}


def test_who_does_not_belong_gets_no_answer(listener: socket.socket) -> None:
    asked: list[object] = []
    answer = RecordingAnswer(asked)
    with serving(listener, answer, uids={4_000_000_000}), pytest.raises(Unavailable):
        gateway.wake()
    assert asked == []
    assert 0 in allowed_uids()
    assert os.getuid() in allowed_uids() or os.getuid() != 0


def test_a_silent_caller_does_not_stop_the_others(listener: socket.socket, settings: Any) -> None:
    with serving(listener, lambda request: {"ok": True}), contextlib.ExitStack() as silent:
        for _ in range(10):
            one = silent.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            one.connect(settings.JACKIN_RUNNER_SOCKET)
        gateway.wake()


@pytest.mark.parametrize("sent", [b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\1x", b"\0\0"])
def test_garbage_is_not_answered_and_harms_nothing(listener: socket.socket, settings: Any, sent: bytes) -> None:
    with serving(listener, lambda request: {"ok": True}):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.connect(settings.JACKIN_RUNNER_SOCKET)
            one.sendall(sent)
            one.shutdown(socket.SHUT_WR)
            assert one.recv(10) == b""
        gateway.wake()


BAD_REQUESTS: list[dict[str, Any]] = [
    {},
    {"op": 7},
    {"op": "stage"},
    {"op": "wake", "extra": 1},
    {"op": "wake", "secrets": {"A": "hunter2"}},
    {"op": "wake", "operation": "x", "secrets": {"A": "hunter2"}},
    {"op": "wake", "operation": "0" * 32, "secrets": {"A": 1}},
    {"op": "wake", "operation": "0" * 32, "secrets": {"A B": "hunter2"}},
    {"op": "wake", "operation": "0" * 32, "secrets": {"A": "hunter2" * 10_000}},
    {"op": "wake", "operation": "0" * 32, "secrets": ["hunter2"]},
    {"op": "check_mounts", "user": "alice", "mounts": []},
    {"op": "check_mounts", "user": "alice", "mounts": [{"source": "/a"}]},
    {"op": "check_mounts", "user": "alice", "mounts": [{"source": 1, "destination": "/b", "mode": "rw"}]},
    {"op": "check_mounts", "user": "alice", "mounts": [{"source": "/a", "destination": "/b", "mode": "x"}]},
    {"op": "check_mounts", "user": "nobody", "mounts": [{"source": "/a", "destination": "/b", "mode": "ro"}]},
]


@pytest.mark.django_db
@pytest.mark.parametrize("request_", BAD_REQUESTS, ids=str)
def test_bad_requests_are_refused(world: World, alice: User, request_: dict[str, Any]) -> None:
    service = RunnerService(world.engines, secrets=world.secrets, wake=lambda: None)
    reply = service.answer(request_)
    assert (reply["ok"], reply["code"]) == (False, "refused")
    assert "hunter2" not in str(reply)
    assert world.broker.calls == []


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
def test_the_gateway_tells_what_the_broker_found(world: World, alice: User) -> None:
    problem = MountProblem(code="missing", message="/x does not exist.")
    asked = [
        MountRequest(source="/home/alice/project", destination="/data", mode="ro"),
        MountRequest(source="/x", destination="/x", mode="ro"),
    ]
    good, bad = gateway.check_mounts("alice", asked)
    assert (good.source, getattr(good, "inode", None), bad) == ("/home/alice/project", INODE, problem)  # type: ignore[union-attr]
    User.objects.update(is_active=False)
    with pytest.raises(Refused):
        gateway.check_mounts("alice", asked)


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
def test_the_gateway_tells_of_the_engine(world: World) -> None:
    status = gateway.engine_status()
    assert (status.engine, status.broker, status.version, status.message) == (True, True, "fake", "")
    world.engine.errors["info"] = EngineUnreachable("The engine is away.")
    status = gateway.engine_status()
    assert (status.engine, status.message) == (False, "The engine is away.")


class WithoutDescriptors:
    """A listening socket for which the process has no descriptor left, the first time."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.failures = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            raise self.failures.pop()
        return self._listener.accept()

    def settimeout(self, seconds: float) -> None:
        self._listener.settimeout(seconds)


def test_a_moment_without_descriptors_is_not_the_end_of_the_socket(listener: socket.socket) -> None:
    listening: Any = WithoutDescriptors(listener)
    with serving(listening, lambda request: {"ok": True}):
        gateway.wake()
    assert not listening.failures


@pytest.mark.django_db
@pytest.mark.usefixtures("gate")
def test_secrets_are_not_replaced_by_a_second_caller(world: World) -> None:
    operation = uuid.uuid4()
    gateway.wake(operation, secrets={"A": "1"})
    with pytest.raises(Conflict):
        gateway.wake(operation, secrets={"A": "2"})
    assert world.secrets.get(operation) == {"A": "1"}


@pytest.mark.parametrize(
    "reply", [{"ok": False}, {}, {"ok": True}, {"ok": True, "results": [{}]}, {"ok": True, "results": []}]
)
def test_a_garbled_answer_is_an_error_not_a_crash(listener: socket.socket, reply: dict[str, Any]) -> None:
    with serving(listener, lambda request: reply), pytest.raises(Unavailable):
        gateway.check_mounts("alice", [MountRequest(source="/a", destination="/b", mode="ro")])


def test_replies_fit_the_wire() -> None:
    assert wire.MOST_REPLY >= 16 * 2 * 4096
