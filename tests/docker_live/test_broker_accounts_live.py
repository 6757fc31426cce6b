"""Who may act as whom, who may speak to the broker, and what a hanging file system does to whom."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import contextlib
import json
import pathlib
import pwd
import socket
import stat
import subprocess

import pytest

from agents.broker import wire
from agents.engine.errors import BrokerRefused
from agents.host.instance import REMAP_BASE
from tests.docker_live.broker_fixtures import ann, ben, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit, request
from tests.support import handles
from tests.support.machine import run, unix_account


def refusal(kit: Kit, account: str) -> str:
    with pytest.raises(BrokerRefused) as caught:
        kit.client.link("zoe", account)
    assert caught.value.code == "account-refused"
    return caught.value.message


def test_links_are_kept_in_a_file_of_roots(kit: Kit, ann: pwd.struct_passwd, ben: pwd.struct_passwd) -> None:
    made = kit.client.link("zoe", "jkt-ann")
    assert (made.account, made.uid, made.how) == ("jkt-ann", ann.pw_uid, "root")
    assert kit.client.link("zoe", "jkt-ben").uid == ben.pw_uid
    assert [link.account for link in kit.client.links() if link.web_user == "zoe"] == ["jkt-ben"]
    status = kit.instance.links_file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, 0)
    identity = kit.client.identity("zoe")
    assert (identity.account, identity.uid, identity.home) == ("jkt-ben", ben.pw_uid, "/home/jkt-ben")
    assert kit.client.unlink("zoe")
    assert not kit.client.unlink("zoe")
    with pytest.raises(BrokerRefused) as caught:
        kit.client.identity("zoe")
    assert caught.value.code == "not-linked"


def test_accounts_that_agents_never_run_for(kit: Kit, system_group: str) -> None:
    assert "root" in refusal(kit, "root")
    assert "below 1000" in refusal(kit, "daemon")
    assert "nobody" in refusal(kit, "nobody")
    assert "no such account" in refusal(kit, "jkt-none")
    with unix_account("jkt-dot"):
        run("usermod", "--gid", system_group, "jkt-dot")
        assert "jkt-system" in refusal(kit, "jkt-dot")
        kit.instance.keys.joinpath("allowed-groups").write_text("jkt-system\n")
        assert kit.client.link("zoe", "jkt-dot").account == "jkt-dot"
        kit.instance.keys.joinpath("allowed-groups").unlink()
        run("usermod", "--gid", "nogroup", "jkt-dot")
        assert "nogroup" in refusal(kit, "jkt-dot")
        run("usermod", "--uid", str(REMAP_BASE + 7), "jkt-dot")
        assert "subordinate" in refusal(kit, "jkt-dot")
    run("groupdel", "jkt-dot", check=False)  # no longer its primary group, so userdel leaves it
    kit.client.unlink("zoe")


def test_a_uid_that_changed_since_the_link_is_refused(kit: Kit, home: pathlib.Path) -> None:
    with unix_account("jkt-dot") as entry:
        kit.client.link("dot", "jkt-dot")
        run("usermod", "--uid", str(entry.pw_uid + 50), "jkt-dot")
        for ask in (
            lambda: kit.client.identity("dot"),
            lambda: kit.client.check("dot", [request(home, "/w")]),
            lambda: kit.client.stage("dot", "a" * 32, [request(home, "/w")]),
        ):
            with pytest.raises(BrokerRefused) as caught:
                ask()
            assert caught.value.code == "account-changed"
    with pytest.raises(BrokerRefused) as caught:
        kit.client.identity("dot")
    assert (caught.value.code, "does not exist" in caught.value.message) == ("account-changed", True)
    kit.client.unlink("dot")


_ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    try:
        sock.sendall(bytes.fromhex(sys.argv[2]))
        print("answered" if sock.recv(4) else "closed")
    except ConnectionError:
        print("closed")
"""


def test_only_root_and_the_runner_are_answered(kit: Kit, ann: pwd.struct_passwd) -> None:
    frame = wire.encode({"v": 1, "op": "staged"}).hex()
    line = [handles.PYTHON, "-c", _ASK, str(kit.instance.broker_socket), frame]
    modes = {place: stat.S_IMODE(place.stat().st_mode) for place in (kit.instance.run_root, kit.instance.broker_socket)}
    with contextlib.ExitStack() as stack:
        for place, mode in modes.items():
            stack.callback(place.chmod, mode)
            place.chmod(0o777)  # whatever the modes are: the kernel says who calls
        done = subprocess.run(line, user=ann.pw_uid, group=ann.pw_gid, extra_groups=[], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("closed\n", "")
    assert subprocess.run(line, capture_output=True, text=True).stdout == "answered\n"


@pytest.mark.parametrize(
    "frame",
    [
        b"\0\0\0\x02{}",
        b"\0\0\0\x04null",
        b"\xff\xff\xff\xffx",
        b"\0\0\0\x01{",
        b"\0\0\0\x02{}more",
        wire.encode({"v": 1, "op": "staged", "more": 1}),
        wire.encode({"v": 1, "op": "link", "web_user": "x", "account": "a/b"}),
    ],
)
def test_frames_that_are_no_request_get_a_refusal(kit: Kit, frame: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect(str(kit.instance.broker_socket))
        sock.sendall(frame)
        assert wire.receive(sock)["code"] == "bad-request"
    assert kit.client.staged() == []


def test_the_first_password_is_forgotten(kit: Kit) -> None:
    kit.instance.first_password_file.write_text("once")
    kit.client.forget_first_password()
    kit.client.forget_first_password()
    assert not kit.instance.first_password_file.exists()


def test_the_links_file_survives_what_is_written_beside_it(kit: Kit, ann: pwd.struct_passwd) -> None:
    kit.instance.links_file.with_name("links.json.new").write_text("half")
    kit.client.link("zoe", "jkt-ann")
    assert json.loads(kit.instance.links_file.read_text())["v"] == 1
    kit.client.unlink("zoe")
