"""Fixtures of the live rings: one running service for the whole run, Unix accounts, a browser."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

import pytest

from tests.support.machine import docker, exists, run, unix_account
from tests.support.service import Service, make_service
from tests.support.web import WebClient

ONE_TIME = re.compile(r"\b[a-z2-9]{5}(-[a-z2-9]{5}){3}\b")
RESULTS = pathlib.Path(__file__).resolve().parents[2] / "test-results"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Person:
    """A web user with a password, linked to the Unix account `account`."""

    name: str
    password: str
    account: str

    @property
    def home(self) -> pathlib.Path:
        """The account's home directory."""
        return pathlib.Path(f"~{self.account}").expanduser()

    def directory(self, name: str, *, mode: str = "0755") -> pathlib.Path:
        """A directory of the account's own in its home."""
        path = self.home / name
        run("install", "-d", "-o", self.account, "-g", self.account, "-m", mode, str(path))
        return path


def forget_earlier_runs(service: Service) -> None:
    """Remove rows and links of an earlier run, keep the images."""
    for place in (service.instance.web, service.instance.keys):
        if place.exists():
            shutil.rmtree(place)


def remove_leftovers(service: Service) -> None:
    """Remove every container and network that carries this instance's label."""
    label = f"label=jackin.instance={service.instance.name}"
    for container in docker(service.instance, "ps", "-aq", "--filter", label, check=False).split():
        docker(service.instance, "rm", "-fv", container, check=False)
    for network in docker(service.instance, "network", "ls", "-q", "--filter", label, check=False).split():
        docker(service.instance, "network", "rm", network, check=False)


@pytest.fixture(scope="session")
def turn() -> Iterator[None]:
    """Two runs of live tests on one machine take turns: they share accounts, interfaces and the instance's name."""
    with pathlib.Path("/run/lock/jackin-web-tests").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def service(turn: None) -> Iterator[Service]:
    """The service, started once for all live tests with a database of its own; two people need --insecure-http."""
    found = make_service()
    forget_earlier_runs(found)
    had_operator = exists("operator")
    try:
        found.start("--insecure-http")
        remove_leftovers(found)  # of a run that was killed: the service leaves alone what its database does not know
        yield found
    finally:
        with contextlib.suppress(Exception):
            remove_leftovers(found)
        found.stop()
        if not had_operator and exists("operator"):
            run("userdel", "--force", "--remove", "operator", check=False)
        RESULTS.mkdir(exist_ok=True)
        if found.log.exists():
            shutil.copy(found.log, RESULTS / "serve.log")
        shutil.rmtree(found.clone.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def engine_socket(request: pytest.FixtureRequest, turn: None) -> str:
    """The real engine of the contract and of single parts: what JACKIN_TEST_ENGINE names, else the service's own."""
    named = os.environ.get("JACKIN_TEST_ENGINE")
    return named or str(request.getfixturevalue("service").instance.engine_socket)


@pytest.fixture(scope="session")
def alice_account() -> Iterator[str]:
    """A Unix account for alice, in a project group of its own."""
    with unix_account("jkt-alice", groups=("jkt-project",)) as entry:
        yield entry.pw_name


@pytest.fixture(scope="session")
def bob_account() -> Iterator[str]:
    """A Unix account for bob, a colleague who shares nothing with alice."""
    with unix_account("jkt-bob") as entry:
        yield entry.pw_name


def add_person(service: Service, name: str, account: str) -> Person:
    """A web user with a password of their own, linked to `account` by root."""
    added = service.manage("person", "add", name)
    assert added.returncode == 0, added.stdout + added.stderr
    once = ONE_TIME.search(added.stdout)
    assert once, added.stdout
    linked = service.manage("host", "link", name, account)
    assert linked.returncode == 0, linked.stdout + linked.stderr
    person = Person(name=name, password=f"a-good-password-of-{name}", account=account)
    WebClient(service).choose_password(name, once.group(), person.password)
    return person


def logged_in(service: Service, person: Person) -> WebClient:
    """A browser session of `person`."""
    found = WebClient(service)
    found.log_in(person.name, person.password)
    return found


@contextlib.contextmanager
def running_agent(service: Service, person: Person, directory: pathlib.Path, destination: str) -> Iterator[str]:
    """The key of a running shell agent of `person` with `directory` writable; ejected afterwards."""
    web = logged_in(service, person)
    key = web.launch([(str(directory), destination, "rw")])
    yield key
    web.eject(key)


@pytest.fixture
def web(service: Service, owner: Person) -> WebClient:
    """Alice, logged in."""
    return logged_in(service, owner)


@pytest.fixture(scope="session")
def owner(service: Service, alice_account: str) -> Person:
    """Alice, the owner of the agents in most tests."""
    return add_person(service, "alice", alice_account)


@pytest.fixture(scope="session")
def colleague(service: Service, bob_account: str) -> Person:
    """Bob, a colleague: has a login and an account of his own, and nothing of alice's."""
    return add_person(service, "bob", bob_account)
