"""The broker beside what hangs, and with a thousand requests at once: everybody is answered or refused within 3 s."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import pwd
import secrets
import time
from collections.abc import Callable, Iterator

import pytest

from agents.broker.owner import SECONDS
from agents.broker.protocol import request as asking
from agents.broker.workers import MOST_PER_SHARE
from agents.engine.errors import BrokerRefused
from agents.engine.types import CheckedMount, MountProblem
from tests.docker_live.broker_fixtures import ann, ben, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit, agent, request, wait_for
from tests.support.crowd import replies, send_all
from tests.support.hanging import Hanging, hanging

WHERE = pathlib.Path("/srv/jkt-hang")


@pytest.fixture
def slow(home: pathlib.Path) -> Iterator[Hanging]:
    """A file system that hangs; links to it lie in ann's home as `link0` … `link39`."""
    point = make(WHERE)
    for number in range(40):
        (home / f"link{number}").symlink_to(point / f"x{number}")
    try:
        with hanging(point) as made:
            yield made
    finally:
        point.rmdir()


def _children(pid: int) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def timed(call: Callable[[], object]) -> tuple[str, float]:
    """The code of the refusal (of the first mount, for a check) or "ok", and the seconds."""
    began = time.monotonic()
    try:
        found = call()
        first = found[0] if isinstance(found, list) and found else None
        code = first.code if isinstance(first, MountProblem) else "ok"
    except BrokerRefused as refused:
        code = refused.code
    return code, time.monotonic() - began


def test_a_file_system_that_hangs_is_an_error_for_its_user_only(
    kit: Kit, ann: pwd.struct_passwd, ben: pwd.struct_passwd, home: pathlib.Path, slow: Hanging
) -> None:
    bens = make(pathlib.Path(ben.pw_dir) / "p", ben)
    with contextlib.ExitStack() as stack:
        stack.callback(bens.rmdir)
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(MOST_PER_SHARE))
        made = stack.enter_context(agent(kit, "ann", request(home, "/w")))
        pid = made.start()
        for path in (WHERE, WHERE / "x"):  # known by the mount table, not even asked
            (direct,) = kit.client.check("ann", [request(path, "/w")])
            assert isinstance(direct, MountProblem)
            assert (direct.code, "fuse" in direct.message) == ("filesystem", True)
        asked = [
            pool.submit(timed, lambda: kit.client.check("ann", [request(home / "link0", "/w")])),
            pool.submit(timed, lambda: kit.client.directories("ann", str(home / "link1"))),
            pool.submit(timed, lambda: kit.client.stage("ann", "e" * 32, [request(home / "link2", "/w")])),
            pool.submit(
                timed, lambda: kit.client.check("ann", [request(home / f"link{n}", f"/w/{n}") for n in _LATER])
            ),
        ]
        slow.take(MOST_PER_SHARE)  # asked and never answered: the children that wait cannot be killed
        assert timed(lambda: kit.client.check("ben", [request(bens, "/w")]))[0] == "ok"
        answers = [future.result(10) for future in asked]
        assert {code for code, _ in answers} == {"timeout"}
        assert max(seconds for _, seconds in answers) < SECONDS
        assert len(_children(kit.pid)) == MOST_PER_SHARE
        assert timed(lambda: kit.client.check("ann", [request(home, "/w")]))[0] == "busy"
        code, seconds = timed(lambda: kit.client.check("ben", [request(bens, "/w")]))
        assert (code, seconds < 1) == ("ok", True)
        kit.client.admit(made.staging.launch, pid=pid, secrets={})  # ann's agents go on nevertheless
        kit.client.release("e" * 32)
        assert kit.client.staged() == []


_LATER = range(3, 35)  # as many mounts as a request may have


def test_who_hung_is_served_again_afterwards(kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path) -> None:
    wait_for(lambda: not _children(kit.pid))
    assert isinstance(kit.client.check("ann", [request(home, "/w")])[0], CheckedMount)


def test_a_source_that_hangs_does_not_take_the_place_of_the_answers_before_it(
    kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path, slow: Hanging
) -> None:
    sources = [home, home / "link0", home]
    found = kit.client.check("ann", [request(one, f"/w/{n}") for n, one in enumerate(sources)])
    assert isinstance(found[0], CheckedMount)
    assert [each.code for each in found[1:] if isinstance(each, MountProblem)] == ["timeout", "not-looked"]


def test_a_thousand_requests_of_one_account_at_once_keep_no_other_account_waiting(
    kit: Kit, ann: pwd.struct_passwd, ben: pwd.struct_passwd, home: pathlib.Path
) -> None:
    bens = make(pathlib.Path(ben.pw_dir) / "q", ben)
    mount = {"source": str(home), "destination": "/w", "mode": "rw"}
    with contextlib.ExitStack() as stack:
        stack.callback(bens.rmdir)
        made = stack.enter_context(agent(kit, "ben", request(bens, "/w")))
        pid = made.start()
        crowd = send_all(str(kit.instance.broker_socket), [asking("check", web_user="ann", mounts=[mount])] * 1000)
        others = [timed(lambda: kit.client.check("ben", [request(bens, "/w")])) for _ in range(3)]
        others.append(timed(lambda: kit.client.admit(made.staging.launch, pid=pid, secrets={})))
        others.append(timed(lambda: kit.client.stage("ben", "b" * 32, [request(bens, "/w")])))
        others.append(timed(lambda: kit.client.release("b" * 32)))
        replies(crowd)
    assert {code for code, _ in others} == {"ok"}
    assert max(seconds for _, seconds in others) < SECONDS
    assert {one.code for one in crowd} == {"ok", "busy"}
    assert max(one.seconds for one in crowd) < SECONDS
    wait_for(lambda: not _children(kit.pid))


def test_a_thousand_requests_of_many_kinds_at_once_are_all_answered_or_refused(
    kit: Kit, ann: pwd.struct_passwd, ben: pwd.struct_passwd, home: pathlib.Path
) -> None:
    mount = {"source": str(home), "destination": "/w", "mode": "rw"}
    kinds = [
        lambda: asking("identity", web_user="ben"),
        lambda: asking("check", web_user="ann", mounts=[mount]),
        lambda: asking("list", web_user="ben", path=ben.pw_dir),
        lambda: asking("stage", web_user="ann", launch=secrets.token_hex(16), mounts=[mount]),
        lambda: asking("release", launch=secrets.token_hex(16)),
        lambda: asking("identity", web_user="nobody-linked"),
        lambda: asking("staged"),
        lambda: asking("links"),
    ]
    crowd = send_all(str(kit.instance.broker_socket), [kind() for _ in range(125) for kind in kinds])
    replies(crowd)
    assert {one.code for one in crowd} == {"ok", "busy", "not-linked"}
    assert max(one.seconds for one in crowd) < SECONDS
    staged = {str(one.request["launch"]) for one in crowd if one.request["op"] == "stage" and one.code == "ok"}
    assert staged == set(kit.client.staged())
    for launch in staged:
        kit.client.release(launch)
    wait_for(lambda: os.listdir(kit.instance.stage) == [])
