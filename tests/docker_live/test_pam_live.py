"""The machine's own PAM: which password of which account is right; and whose account may be linked at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import signal
import socket
import sys
from collections.abc import Iterator

import pamela
import pytest

from agents.broker.wire import call
from agents.engine.errors import BrokerRefused
from agents.host.children import bind, listeners
from agents.pam.check import EXPIRED, RIGHT, WRONG, checker
from agents.pam.server import Server
from tests.docker_live.broker_kit import Kit, running_broker
from tests.support.machine import run, unix_account

pytestmark = pytest.mark.live

PASSWORD = "the password of the Unix account"
check = checker(pamela)


@contextlib.contextmanager
def account(name: str) -> Iterator[pwd.struct_passwd]:
    with unix_account(name) as entry:
        run("chpasswd", text=f"{name}:{PASSWORD}\n")
        yield entry


def test_right_wrong_unknown_locked_expired_and_without_a_password(turn: None) -> None:
    with account("jkt-dora"):
        assert check("jkt-dora", PASSWORD) == RIGHT
        assert check("jkt-dora", PASSWORD + "x") == WRONG
        assert check("jkt-nobody", PASSWORD) == WRONG
        run("passwd", "-l", "jkt-dora")
        assert check("jkt-dora", PASSWORD) == WRONG
        run("passwd", "-u", "jkt-dora")
        run("chage", "-E", "0", "jkt-dora")
        assert check("jkt-dora", PASSWORD) == EXPIRED
        run("chage", "-E", "-1", "-d", "0", "jkt-dora")  # the password has to be changed at the next login
        assert check("jkt-dora", PASSWORD) == EXPIRED
        run("chage", "-d", "2026-01-01", "-M", "99999", "jkt-dora")
        assert check("jkt-dora", PASSWORD) == RIGHT
        run("passwd", "-d", "jkt-dora")  # empty: `nullok` of Debian's common-auth would let anybody in
        assert check("jkt-dora", "anything") == WRONG


@pytest.fixture(scope="module")
def kit(engine_socket: str) -> Iterator[Kit]:
    """A broker with the PAM process beside it."""
    with running_broker(engine_socket) as found:
        listener: socket.socket = bind(listeners(found.instance)["pam"])
        pid = os.fork()
        if pid == 0:
            try:
                Server(listener, check).run(stop=os.pipe()[0])
            finally:
                os._exit(0)
        try:
            yield found
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            listener.close()


def refused(kit: Kit, web_user: str, name: str, password: str = PASSWORD) -> BrokerRefused:
    with pytest.raises(BrokerRefused) as caught:
        kit.client.link_with_password(web_user, name, password)
    return caught.value


def test_only_a_proven_account_of_a_person_is_linked_and_to_one_only(kit: Kit) -> None:
    with account("jkt-dora") as dora, account("jkt-dino"):
        assert refused(kit, "ann", "jkt-dora", "wrong").code == "not-proven"
        made = kit.client.link_with_password("ann", "jkt-dora", PASSWORD)
        assert (made.account, made.uid, made.how) == ("jkt-dora", dora.pw_uid, "pam")
        assert refused(kit, "ben", "jkt-dora").code == "account-taken"
        assert [link.web_user for link in kit.client.links()] == ["ann"]
        assert kit.client.link("ben", "jkt-dora").how == "root", "root may"
        kit.client.unlink("ben")
        run("usermod", "--non-unique", "--uid", "998", "jkt-dino")
        system, unknown = refused(kit, "cid", "jkt-dino"), refused(kit, "cid", "jkt-nobody")
        assert system.code == unknown.code == refused(kit, "cid", "root").code == "not-proven"
        assert system.message == unknown.message, "a right password does not help a system account, nor shows"
        run("usermod", "--non-unique", "--uid", str(dora.pw_uid), "jkt-dino")
        assert refused(kit, "dan", "jkt-dino").code == "account-taken", "another name of the same uid"
        assert PASSWORD not in kit.log.read_text()


def test_the_socket_is_roots_alone(kit: Kit) -> None:
    place = pathlib.Path(kit.instance.pam_socket)
    assert (place.stat().st_mode & 0o777, place.stat().st_uid, place.stat().st_gid) == (0o600, 0, 0)
    assert call(place, {}, timeout=5) == {"answer": "bad-request"}, "root is answered"


def test_pamela_is_taken_from_one_file_and_nothing_beside_it() -> None:
    from agents.host.children import pamela as path_of

    assert path_of(pathlib.Path("/opt/x")).endswith(f"python3.{sys.version_info.minor}/site-packages/pamela.py")
