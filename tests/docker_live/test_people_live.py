"""People come by a link that works once, and link a Unix account by its own password; a changed link ends agents."""

from __future__ import annotations

import contextlib
import pathlib
import pwd
import re
import secrets
from collections.abc import Iterator

import pytest

from tests.support.fixtures import Person
from tests.support.machine import run, unix_account
from tests.support.service import Service, wait_for
from tests.support.web import WebClient

pytestmark = pytest.mark.live

LINK = re.compile(r"/invitation#(\S+)")
PASSWORD = "a-good-password-of-the-newcomer"
UNIX = "the password of the Unix account"


@contextlib.contextmanager
def account_with_password(name: str) -> Iterator[pwd.struct_passwd]:
    with unix_account(name) as entry:
        run("chpasswd", text=f"{name}:{UNIX}\n")
        yield entry


@pytest.fixture
def name() -> str:
    return f"new-{secrets.token_hex(4)}"


@pytest.fixture
def secret(service: Service, name: str) -> str:
    """What root hands over: the end of an invitation link."""
    made = service.manage("person", "invite", name)
    found = LINK.search(made.stdout)
    assert found, made.stdout + made.stderr
    return found.group(1)


@pytest.fixture
def newcomer(service: Service, name: str, secret: str) -> Iterator[WebClient]:
    """Logged in by the link; deleted again afterwards."""
    web = WebClient(service)
    come_in(web, secret)
    yield web
    assert service.manage("person", "delete", name, "--yes").returncode == 0
    assert "/login" in web.get("/").url, "the session has ended"


def come_in(web: WebClient, secret: str) -> int:
    chosen = {"secret": secret, "new_password1": PASSWORD, "new_password2": PASSWORD}
    return web.post("/invitation", chosen).status_code


def prove(web: WebClient, account: str, password: str = UNIX) -> str:
    """What the account page says after an attempt to link."""
    return web.post("/account/link", {"account": account, "password": password}, page="/account").text


def linked(service: Service, name: str) -> str:
    said = service.manage("person", "list").stdout
    return next(line.split("\t")[3] for line in said.splitlines() if line.startswith(f"{name}\t"))


def test_an_invitation_works_once(service: Service, name: str, secret: str, newcomer: WebClient) -> None:
    assert newcomer.get("/account").status_code == 200
    other = WebClient(service)
    assert come_in(other, secret) == 404
    assert "/login" in other.get("/").url
    other.log_in(name, PASSWORD)
    assert secret not in service.log.read_text(errors="replace")


def test_an_account_is_linked_by_its_own_password_and_a_changed_link_ends_agents(
    service: Service, name: str, newcomer: WebClient, colleague: Person
) -> None:
    with account_with_password("jkt-dora") as entry:
        before = prove(newcomer, "jkt-dora", "a wrong password")
        assert linked(service, name) == "-", before
        prove(newcomer, "jkt-dora")
        assert linked(service, name) == "jkt-dora"
        project = pathlib.Path(entry.pw_dir) / "project"
        run("install", "-d", "-o", "jkt-dora", "-g", "jkt-dora", str(project))
        agent = newcomer.launch([(str(project), "/workspace/project", "rw")])
        assert UNIX not in service.log.read_text(errors="replace")
        for log in service.instance.logs.glob("*"):
            assert UNIX not in log.read_text(errors="replace"), log
        assert service.manage("host", "link", name, colleague.account).returncode == 0
        wait_for("the agent's end", lambda: newcomer.state(agent) == "Ended", seconds=90)
        assert colleague.account in newcomer.get("/account").text
        assert service.manage("host", "unlink", name).returncode == 0


def test_what_may_not_be_linked_is_answered_as_a_wrong_password_is(
    service: Service, name: str, newcomer: WebClient
) -> None:
    said = [re.sub(r"\d+", "", error_of(prove(newcomer, one, "x y z"))) for one in ("root", "daemon", "nobody-here")]
    assert len(set(said)) == 1, said
    assert said[0]
    assert linked(service, name) == "-"


def test_a_locked_and_an_expired_account_are_refused(service: Service, name: str, newcomer: WebClient) -> None:
    with account_with_password("jkt-dora"):
        run("passwd", "-l", "jkt-dora")
        prove(newcomer, "jkt-dora")
        assert linked(service, name) == "-"
        run("passwd", "-u", "jkt-dora")
        run("chage", "-E", "0", "jkt-dora")
        assert "expired" in prove(newcomer, "jkt-dora")
        assert linked(service, name) == "-"


def test_trying_again_and_again_is_stopped_even_for_the_right_password(
    service: Service, name: str, newcomer: WebClient
) -> None:
    with account_with_password("jkt-dino"):
        for attempt in range(5):
            prove(newcomer, "jkt-dino", f"guess number {attempt}")
        assert "minutes" in error_of(prove(newcomer, "jkt-dino"))
        assert linked(service, name) == "-"


def error_of(page: str) -> str:
    """The sentences of the page that are errors."""
    alert = re.search(r'class="note bad" role="alert">(.*?)</div>', page, re.DOTALL)
    return " ".join(re.findall(r"<p>(.*?)</p>", alert.group(1) if alert else ""))
