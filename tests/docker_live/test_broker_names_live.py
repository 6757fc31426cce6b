"""A user database that never answers, and ranges of ids that somebody adds later: for one broker alone."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import concurrent.futures
import os
import pathlib
import pwd
import time
from collections.abc import Callable, Iterator

import pytest

from agents.broker.owner import SECONDS
from agents.engine.errors import BrokerRefused
from agents.host.instance import REMAP_BASE
from tests.docker_live.broker_fixtures import ann, ben, home, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit, request, running_broker, wait_for
from tests.support.hanging import hanging


@pytest.fixture(scope="module")
def kit(engine_socket: str) -> Iterator[Kit]:
    with running_broker(engine_socket, apart=True) as found:
        yield found


def refusal(call: Callable[[], object]) -> str:
    """The refusal's code, which came in time."""
    began = time.monotonic()
    with pytest.raises(BrokerRefused) as caught:
        call()
    assert time.monotonic() - began < SECONDS
    return caught.value.code


def looks(kit: Kit, home: pathlib.Path, user: str = "ann") -> list[Callable[[], object]]:
    """Everything for which the broker has to know who somebody is."""
    return [
        lambda: kit.client.identity(user),
        lambda: kit.client.check(user, [request(home, "/w")]),
        lambda: kit.client.directories(user, str(home)),
        lambda: kit.client.stage(user, "a" * 32, [request(home, "/w")]),
        lambda: kit.client.link("zoe", "jkt-ann"),
    ]


@pytest.mark.parametrize("file", ["/etc/passwd", "/etc/group"])
def test_a_name_service_that_never_answers_is_a_refusal_in_time(
    kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path, tmp_path: pathlib.Path, file: str
) -> None:
    os.mkfifo(tmp_path / "names")  # whoever opens it waits for a writer, who never comes
    with kit.instead(file, tmp_path / "names"):
        for look in looks(kit, home):
            assert refusal(look) == "name-service"
        began = time.monotonic()
        assert [link.account for link in kit.client.links()] == ["jkt-ann"]
        assert kit.client.staged() == []
        kit.client.release("a" * 32)
        assert time.monotonic() - began < 1
    assert kit.client.identity("ann").account == "jkt-ann"


def test_a_worker_that_cannot_be_killed_is_not_waited_for(kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path) -> None:
    subuid = pathlib.Path("/etc/subuid")
    with concurrent.futures.ThreadPoolExecutor(1) as pool, hanging(subuid, pid=kit.pid) as slow:
        asked = pool.submit(refusal, lambda: kit.client.identity("ann"))
        slow.take(1)  # root's own worker waits in the kernel
        assert asked.result(10) == "timeout"
        assert _children(kit.pid)
        assert kit.client.staged() == []
    wait_for(lambda: not _children(kit.pid))
    assert kit.client.identity("ann").account == "jkt-ann"


def _children(pid: int) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("file", ["/etc/subuid", "/etc/subgid"])
def test_a_range_added_later_that_clashes_with_the_containers_stops_every_launch(
    kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path, tmp_path: pathlib.Path, file: str
) -> None:
    staged = kit.client.stage("ann", "b" * 32, [request(home, "/w")]).launch
    added = tmp_path / "ranges"
    added.write_text(f"{pathlib.Path(file).read_text()}jkt-eve:{REMAP_BASE + 65536}:65536\n")
    try:
        admit = lambda: kit.client.admit(staged, pid=os.getpid(), secrets={})  # noqa: E731
        with kit.instead(file, added):
            for look in (*looks(kit, home), admit):
                assert refusal(look) == "ids-clash"
        assert refusal(admit) == "mismatch"  # the range is gone: looked at again, and this is no container
        assert kit.client.identity("ann").account == "jkt-ann"
    finally:
        kit.client.release(staged)


@pytest.mark.parametrize("file", ["/etc/subuid", "/etc/subgid"])
def test_an_account_whose_id_was_given_to_somebodys_containers_is_refused(
    kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path, tmp_path: pathlib.Path, file: str
) -> None:
    number = ann.pw_uid if file == "/etc/subuid" else ann.pw_gid
    added = tmp_path / "ranges"
    added.write_text(f"{pathlib.Path(file).read_text()}jkt-eve:{number}:1\n")
    with kit.instead(file, added):
        for look in looks(kit, home):
            assert refusal(look) == "account-refused"
