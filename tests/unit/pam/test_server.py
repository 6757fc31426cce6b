"""The PAM process: its schema, its limits, that slow answers hold nobody up, and that no password is written."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from agents.broker import wire
from agents.host import pam_service
from agents.host.shell import HostError
from agents.pam import check as pam_check
from agents.pam import server
from agents.pam.server import MOST_OF_ALL, MOST_OF_ONE, Server

WRONG_TAKES = 0.3
SECRET = "correct horse battery"


def right_for_ann(account: str, password: str) -> str:
    if account == "slow":
        time.sleep(2)
    if account == "crash":
        os.abort()
    return {"ann": "right", "old": "expired"}.get(account, "wrong") if password == SECRET else "wrong"


Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> Iterator[Serve]:
    """Starts a server in a process of its own; returns its socket."""
    pids = []

    def start(check: Any = right_for_ann) -> str:
        path = str(tmp_path / "pam.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(64)
        pid = os.fork()
        if pid == 0:
            try:
                never, _ = os.pipe()
                log = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY, 0o600)
                os.dup2(log, 1)
                os.dup2(log, 2)
                Server(listener, check, wrong_takes=WRONG_TAKES).run(stop=never)
            finally:
                os._exit(0)
        pids.append(pid)
        listener.close()
        return path

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def ask(path: str, account: str = "ann", password: str = SECRET, *, web_user: str = "alice", ask: Any = True) -> Any:
    question = {"web_user": web_user, "account": account, "password": password, "ask": ask}
    return wire.call(path, question, timeout=10).get("answer")


def test_right_wrong_expired_and_unknown(serve: Serve) -> None:
    path = serve()
    assert ask(path) == "right"
    assert ask(path, password="wrong") == "wrong"
    assert ask(path, "old") == "expired"
    assert ask(path, "nobody-here") == "wrong"


def test_an_account_that_agents_never_run_for_is_not_asked_even_with_its_right_password(serve: Serve) -> None:
    path = serve()
    assert ask(path) == "right"
    began = time.monotonic()
    assert ask(path, ask=False) == "wrong"
    assert time.monotonic() - began >= WRONG_TAKES, "nor does the time tell"


def test_a_wrong_answer_takes_its_time(serve: Serve) -> None:
    path = serve()
    began = time.monotonic()
    assert ask(path, password="wrong") == "wrong"
    assert time.monotonic() - began >= WRONG_TAKES


def test_five_attempts_of_one_person_whatever_the_account(serve: Serve) -> None:
    path = serve()
    for number in range(MOST_OF_ONE):
        assert ask(path, f"account{number}") == "wrong"
    assert ask(path) == "limit"
    assert ask(path, web_user="bob") == "right", "another person is not held up"


def test_five_attempts_for_one_account_whoever_tries_and_however_it_is_written(serve: Serve) -> None:
    path = serve()
    for number, name in zip(range(MOST_OF_ONE), ("ben", "Ben", "BEN", "bEn", "beN"), strict=True):
        assert ask(path, name, web_user=f"user{number}") == "wrong"
    assert ask(path, "ben", web_user="carol") == "limit"
    assert ask(path, web_user="carol") == "right"


def test_no_more_than_so_many_in_all(serve: Serve) -> None:
    path = serve()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda n: ask(path, f"a{n}", web_user=f"u{n}"), range(MOST_OF_ALL))
    assert set(found) == {"wrong"}
    assert ask(path, web_user="fresh") == "limit"


def test_a_slow_answer_and_a_crash_hold_nobody_up(serve: Serve) -> None:
    path = serve()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, path, "slow", web_user="slow")
        with pytest.raises(wire.WireError):
            ask(path, "crash", web_user="crash")
        began = time.monotonic()
        assert ask(path) == "right"
        assert time.monotonic() - began < 1
        assert not slow.done()
        assert slow.result() == "wrong"


@pytest.mark.parametrize(
    "message", [{}, {"web_user": "a"}, {"web_user": 1, "account": "a", "password": "b", "ask": True}, {"x": "y"}]
)
def test_anything_else_is_no_request(serve: Serve, message: dict[str, Any]) -> None:
    assert wire.call(serve(), message, timeout=5) == {"answer": "bad-request"}


def test_without_pam_it_says_so(serve: Serve) -> None:
    assert ask(serve(None)) == "away"


def test_another_account_of_the_machine_is_not_listened_to(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "os", SimpleNamespace(**{**vars(os), "geteuid": lambda: 4242}))
    with pytest.raises(ConnectionError):
        ask(serve())


def test_no_password_is_written(serve: Serve, tmp_path: pathlib.Path) -> None:
    path = serve()
    ask(path)
    ask(path, password=SECRET + "x")
    with pytest.raises(wire.WireError):
        ask(path, "crash")
    assert SECRET not in (tmp_path / "log").read_text()


def test_a_module_that_others_may_write_is_not_loaded(tmp_path: pathlib.Path) -> None:
    module = tmp_path / "pamela.py"
    module.write_text("raise SystemExit")
    with pytest.raises((HostError, PermissionError)):
        pam_check.load(module)


def test_the_pam_service_is_written_once_and_left_alone(tmp_path: pathlib.Path) -> None:
    assert not pam_service.ensure(tmp_path), "without common-auth PAM's own `other` holds"
    (tmp_path / "common-auth").touch()
    assert pam_service.ensure(tmp_path)
    place = tmp_path / pam_service.NAME
    assert place.stat().st_mode & 0o777 == 0o644
    place.write_text("changed by root")
    assert not pam_service.ensure(tmp_path)
    assert place.read_text() == "changed by root"
