"""The first administrator: whose account it is, and where the one-time password goes."""

from __future__ import annotations

import io
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from agents.host import first_admin, links
from agents.host.first_admin import MARK, account_for, make_operator
from agents.host.instance import Instance
from agents.host.settings import Settings
from agents.host.shell import HostError


def entry(name: str, *, uid: int = 1234, comment: str = "") -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, comment, f"/home/{name}", "/bin/bash"))


@pytest.mark.parametrize(
    ("env", "asked", "expected"),
    [
        ({"SUDO_USER": "alice"}, None, ("alice", False)),
        ({"SUDO_USER": "alice"}, "bob", ("bob", False)),
        ({}, "bob", ("bob", False)),
        ({}, None, ("operator", True)),
        ({"SUDO_USER": "root"}, None, ("operator", True)),
        ({"USER": "carol", "LOGNAME": "carol"}, None, ("operator", True)),  # nobody is guessed
    ],
)
def test_who_it_is(env: dict[str, str], asked: str | None, expected: tuple[str, bool]) -> None:
    assert account_for(env, asked=asked) == expected


def test_somebodys_own_account_called_operator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry(name, comment="Olga Perator,,,"))
    with pytest.raises(HostError, match="--account NAME"):
        make_operator()


def test_the_operator_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry(name, comment=MARK))
    assert make_operator() is False


@pytest.mark.parametrize("uid", [0, 33, 999, 65534])
def test_accounts_that_are_nobodys_are_refused(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry(name, uid=uid))
    with pytest.raises(HostError, match=f"uid {uid}"):
        first_admin.check_account("daemon")


class Output(io.StringIO):
    """Standard output that is a terminal or is not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Commands:
    """`manage.py` of an empty database: remembers what it was told."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.password = ""

    def manage(self, *words: str, user: str, text: str) -> str:
        assert words == ("first_administrator", "alice")  # never the password: others can read a command line
        answer = "exists" if self.password else "created"
        self.password = self.password or text.strip()
        return f"{answer}\n"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr(Instance, "data", property(lambda self: tmp_path))
    for name in ("host", "keys", "web"):
        (tmp_path / name).mkdir()
    (tmp_path / "web" / "db.sqlite3").touch()
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry(name))
    linked: list[dict[str, Any]] = []
    monkeypatch.setattr(links, "links", lambda instance: linked)
    monkeypatch.setattr(links, "link", lambda django, user, account: linked.append({"web_user": user}))
    return Commands(Settings(instance=Instance(name="some", port=8123)))


def run(commands: Commands, monkeypatch: pytest.MonkeyPatch, *, terminal: bool, asked: str | None = None) -> str:
    output = Output(terminal=terminal)
    monkeypatch.setattr("sys.stdout", output)
    first_admin.ensure(commands, asked=asked)  # type: ignore[arg-type]
    return output.getvalue()


def test_on_a_terminal_the_password_is_shown_once(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(commands, monkeypatch, terminal=True)
    assert said.count(commands.password) == 1
    assert len(commands.password) == 24
    assert not commands.settings.instance.first_password_file.exists()
    assert run(commands, monkeypatch, terminal=True) == ""


def test_without_a_terminal_it_goes_into_a_file_of_roots(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(commands, monkeypatch, terminal=False)
    file = commands.settings.instance.first_password_file
    assert commands.password not in said
    assert str(file) in said
    assert file.read_text().strip() == commands.password
    assert os.stat(file).st_mode & 0o777 == 0o600


def test_a_link_that_was_not_made_is_made_at_the_next_start(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise HostError("The broker does not answer.")

    real = links.link
    monkeypatch.setattr(links, "link", fails)
    with pytest.raises(HostError):
        run(commands, monkeypatch, terminal=True)
    monkeypatch.setattr(links, "link", real)
    assert commands.password not in run(commands, monkeypatch, terminal=True)
    assert [found["web_user"] for found in links.links(commands.settings.instance)] == ["alice"]


def test_another_account_later_is_not_taken_in_silence(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    run(commands, monkeypatch, terminal=True)
    assert "manage.py host link" in run(commands, monkeypatch, terminal=True, asked="bob")
