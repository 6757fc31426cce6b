"""The user database asked in a child: what it says, and what happens when it says nothing."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import time

import pytest

from agents.broker import names
from agents.broker.protocol import Refusal


def hang(*_: object) -> None:
    """A name service that waits for a server that is gone."""
    signal.pause()


def test_an_account_is_what_the_machine_says() -> None:
    me = pwd.getpwuid(os.getuid())
    found = names.account(me.pw_name, until=time.monotonic() + 5)
    assert found is not None
    assert (found.uid, found.gid, found.home) == (me.pw_uid, me.pw_gid, me.pw_dir)
    assert found.group == grp.getgrgid(me.pw_gid).gr_name
    assert names.account("no-such-account", until=time.monotonic() + 5) is None


@pytest.mark.parametrize("call", ["pwd.getpwnam", "os.getgrouplist", "grp.getgrgid"])
def test_no_answer_in_time_is_a_refusal(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(call, hang)
    began = time.monotonic()
    with pytest.raises(Refusal) as caught:
        names.account(pwd.getpwuid(os.getuid()).pw_name, until=began + 0.3)
    assert caught.value.code == "name-service"
    assert time.monotonic() - began < 2


def test_a_message_has_numbers_where_no_names_come(monkeypatch: pytest.MonkeyPatch) -> None:
    root = (pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name)
    assert names.owners(uid=0, gid=0, until=time.monotonic() + 5) == root
    assert names.owners(uid=0, gid=0, until=0) == ("0", "0")
    monkeypatch.setattr("pwd.getpwuid", hang)
    began = time.monotonic()
    assert names.owners(uid=0, gid=0, until=began + 60) == ("0", "0")
    assert time.monotonic() - began < 2


def test_accounts_of_the_service_are_known_without_a_name_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwd.getpwnam", hang)
    assert names.local_uid("root") == 0
    assert names.local_uid("no-such-account") is None
