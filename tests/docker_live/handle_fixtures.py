"""Fixtures of an agent that takes directory handles from a process of its owner's on the host."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import pathlib
import pwd
import subprocess
from collections.abc import Iterator

import pytest

from tests.docker_live.broker_fixtures import ann, ben, folder, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import Agent, Kit, request, running
from tests.support import handles

GIVEN = ("/", "/", "/proc", "/proc", "/dev", "/dev", "/proc/self/root", "/proc/self/root")  # O_PATH and O_RDONLY each


class Inside:
    """An agent of ann's that takes handles of the host from a process of hers."""

    def __init__(self, agent: Agent, home: pathlib.Path) -> None:
        self.agent = agent
        self.home = home

    def run(self, script: str, *, user: str = "0:0") -> subprocess.CompletedProcess[str]:
        """Run `script` with the handles of GIVEN as descriptors 10, 11 …"""
        (self.home / "script").write_text(script)
        return self.agent.execute("perl /w/take.pl /w/door sh /w/script", user=user)


@pytest.fixture(scope="module")
def project(ann: pwd.struct_passwd) -> Iterator[pathlib.Path]:
    with folder(pathlib.Path(ann.pw_dir) / "handles", ann) as made:
        handles.programs(made)
        yield made


@pytest.fixture(scope="module")
def inside(kit: Kit, ann: pwd.struct_passwd, project: pathlib.Path) -> Iterator[Inside]:
    door = project / "door"
    with handles.giving(ann, door, GIVEN), running(kit, "ann", request(project, "/w")) as agent:
        yield Inside(agent, project)


@pytest.fixture(scope="module")
def places(ben: pwd.struct_passwd) -> Iterator[pathlib.Path]:
    """Directories and files of root's and of ben's, to which ann has no right."""
    with folder(pathlib.Path("/srv/jkt-place")) as place:
        (make(place / "of-root", None, 0o700) / "file").write_text("hush of root\n")
        (make(place / "of-ben", ben, 0o700) / "file").write_text("hush of ben\n")
        (place / "closed").write_text("hush of root\n")
        (place / "closed").chmod(0o600)
        make(place / "open", None, 0o777)
        yield place
