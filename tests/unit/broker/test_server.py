"""The broker's loop with many requests at once and workers that hang: everybody is answered or refused in time."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from agents.broker import operations, server, syscalls, wire
from agents.broker.config import Config
from agents.broker.operations import Reply
from agents.broker.owner import SECONDS
from agents.broker.protocol import Request, request
from agents.host.children import BACKLOG
from agents.host.instance import Instance
from tests.support.crowd import replies, send_all

MANY = 40  # accounts whose requests hang


def identity(asked: Request, _config: Config, until: float) -> Reply:
    """The answer for bob; everybody else's requests hang for good."""
    while not asked.web_user.startswith("bob"):
        signal.pause()
    return {"ok": True, "left": until - time.monotonic()}


@pytest.fixture
def listening(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(tmp_path / "broker.sock"))
        sock.listen(BACKLOG)
        yield sock


@pytest.fixture
def path(tmp_path: pathlib.Path, listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The socket of a server in a process of its own, with handlers of ours and links for all."""
    monkeypatch.setattr(operations, "HANDLERS", {**operations.HANDLERS, "identity": identity})
    names = ["bob", *(f"slow{n}" for n in range(MANY))]
    links = [{"web_user": name, "account": name, "uid": 1000, "linked_at": "", "how": "test"} for name in names]
    (tmp_path / "links.json").write_text(json.dumps({"links": links}))
    (tmp_path / "stage").mkdir()
    whole = vars(Config.from_instance(Instance(name="none")))
    places = {"keys": tmp_path, "links_file": tmp_path / "links.json", "stage": tmp_path / "stage"}
    config = Config(**{**whole, **places, "allowed_peers": frozenset({os.getuid()})})
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.become_subreaper()
            made = server.Server(listening, config)
            signal.signal(signal.SIGTERM, made.stop)
            made.run()
        finally:
            os._exit(0)
    try:
        yield str(tmp_path / "broker.sock")
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def ask(path: str, op: str, **fields: object) -> tuple[str, float]:
    """The reply's code, or "ok", and the seconds that it took."""
    began = time.monotonic()
    reply = wire.call(path, request(op, **fields), timeout=10)
    return str(reply.get("code", "ok")), time.monotonic() - began


def test_a_thousand_requests_at_once_are_all_answered_or_refused_in_time(path: str) -> None:
    names = ["slow0"] * 600 + [f"slow{n % MANY}" for n in range(400)]
    crowd = send_all(path, [request("identity", web_user=name) for name in names])
    others = [ask(path, "identity", web_user="bob") for _ in range(5)]
    others += [ask(path, "release", launch="b" * 32) for _ in range(5)]
    replies(crowd)
    assert {code for code, _ in others} == {"ok"}
    assert {one.code for one in crowd} == {"timeout", "busy"}
    assert len([one for one in crowd if one.code == "timeout"]) >= MANY  # at least each account's first was taken
    assert max(one.seconds for one in crowd) < SECONDS
    assert max(seconds for _, seconds in others) < SECONDS


def test_hanging_requests_of_forty_accounts_keep_nobody_else_waiting(path: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(MANY) as pool:
        slow = [pool.submit(ask, path, "identity", web_user=f"slow{n}") for n in range(MANY)]
        while not all(future.running() for future in slow):
            time.sleep(0.01)
        codes = [ask(path, "identity", web_user="bob") for _ in range(10)]
        assert not any(future.done() for future in slow)
        assert {code for code, _ in codes} == {"ok"}
        assert max(seconds for _, seconds in codes) < 1
        assert {future.result(10)[0] for future in slow} == {"timeout"}  # each account's own first was taken, too


def test_who_finds_the_broker_full_is_told_so(path: str) -> None:
    waiting = []
    try:
        for _ in range(server.MOST_CONNECTIONS):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            waiting.append(sock)
            sock.connect(path)
        assert ask(path, "links")[0] == "busy"
        waiting.pop().close()
        until = time.monotonic() + 5
        while ask(path, "links")[0] != "ok":
            assert time.monotonic() < until
    finally:
        for sock in waiting:
            sock.close()


def test_a_full_queue_is_waited_for_and_not_an_error(tmp_path: pathlib.Path) -> None:
    where = str(tmp_path / "queue.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(where)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
            first.connect(where)
            with pytest.raises(TimeoutError):
                wire.call(where, {}, timeout=0.2)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                call = pool.submit(wire.call, where, {"a": 1}, timeout=10)
                listener.accept()[0].close()
                served, _ = listener.accept()
                with served:
                    assert wire.receive(served) == {"a": 1}
                    wire.send(served, {"b": 2})
                assert call.result(10) == {"b": 2}
