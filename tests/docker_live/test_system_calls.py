"""Which system calls an agent and a build step can make, tried in real ones."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.support.agents import execute
from tests.support.fixtures import Person, running_agent
from tests.support.machine import docker, run
from tests.support.service import Service

CONSTRUCT = "projectjackin/construct:trixie"
# Each family by the 32 bits that the kernel looks at, and once more with others above them; io_uring by its first call.
PROGRAM = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
def call(*words):
    ctypes.set_errno(0)
    found = libc.syscall(*(ctypes.c_long(word) for word in words))
    return "ok" if found >= 0 else errno.errorcode[ctypes.get_errno()]
said = {str(family): sorted({call(number, family, kind, 0) for kind in (1, 2, 3, 5)}) for family in range(1, 46)}
said["garbage above"] = [call(number, 40 | 1 << 32, 1, 0)]
said["io_uring"] = [call(425, 1, 0)]
said["keys"] = [call(250 if os.uname().machine == "x86_64" else 219, 0, -1, 0)]
print("SAID" + json.dumps(said))
"""


@pytest.fixture(scope="module")
def agent(service: Service, owner: Person) -> Iterator[str]:
    """A running shell agent of alice's."""
    with running_agent(service, owner, owner.directory("calls"), "/workspace/calls") as key:
        yield key


def judge(said: str) -> None:
    """What the program found is what the profile allows."""
    line = next(line for line in said.splitlines() if "SAID" in line)
    found = json.loads(line.partition("SAID")[2])
    for family in ("1", "2", "10", "16"):
        assert "ok" in found[family], family
    others = {key: answer for key, answer in found.items() if key not in {"1", "2", "10", "16"}}
    assert len(others) == 44
    assert {key: answer for key, answer in others.items() if answer != ["EPERM"]} == {}


@pytest.mark.parametrize("user", ["1000", "0"])
def test_an_agent_opens_sockets_of_its_own_network_only(service: Service, agent: str, user: str) -> None:
    judge(execute(service.instance, agent, "python3", "-c", PROGRAM, user=user))


def test_a_build_step_opens_no_others_either(service: Service, agent: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "try.py").write_text(PROGRAM)
    (tmp_path / "Dockerfile").write_text(f"FROM {CONSTRUCT}\nCOPY try.py /try.py\nRUN python3 /try.py\n")
    try:
        judge(docker(service.instance, "build", "--no-cache", "--tag", "jkt/calls:test", str(tmp_path)))
    finally:
        docker(service.instance, "image", "rm", "jkt/calls:test", check=False)


def test_outside_of_a_container_the_program_finds_more() -> None:
    """Else the tests above would show nothing but a broken program."""
    done = run("/usr/bin/python3", "-c", PROGRAM)
    found = json.loads(done.partition("SAID")[2])
    assert "ok" in found["17"]
    assert found["io_uring"] != ["EPERM"] or "2" in run("cat", "/proc/sys/kernel/io_uring_disabled", check=False)
