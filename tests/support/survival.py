"""Killing the parts of a running service as hard as it goes, and looking at what is there afterwards."""

from __future__ import annotations

import os
import pathlib
import signal
from collections import Counter

from agents.host import engine_config, processes
from agents.host.instance import Instance
from tests.support.machine import docker, run
from tests.support.service import Service, wait_for
from tests.support.web import WebClient

ENGINE = ("dockerd", "containerd")
CHILDREN = ("broker", "guard", "terminals", "runner", "daphne")
PARTS = (*ENGINE, *CHILDREN)


def engine_pid(instance: Instance, program: str) -> int:
    """The process id of our dockerd or containerd; 0 where none runs."""
    files = {"dockerd": engine_config.dockerd_file, "containerd": engine_config.containerd_file}
    found = processes.find(program=program, argument=files[program](instance))
    if found is None:
        return 0
    found.close()
    return found.pid


def pid_of(service: Service, part: str) -> int:
    """The process id of a part; 0 where none runs."""
    if part in ENGINE:
        return engine_pid(service.instance, part)
    try:
        return service.child(part)
    except (OSError, ValueError):
        return 0


def supervisor_pid(service: Service) -> int:
    """The one that holds the lock."""
    return int(service.instance.lock_file.read_text())


def kill(*pids: int) -> None:
    """`kill -9`, all of them before the first one is missed by another."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def engine_answers(service: Service) -> bool:
    """Whether our engine can be asked."""
    return docker(service.instance, "version", "--format", "{{.Server.Version}}", check=False).strip() != ""


def kill_part(service: Service, part: str) -> None:
    """`kill -9` one part and wait until another one has taken its place."""
    old = pid_of(service, part)
    kill(old)
    wait_for(f"a new {part}", lambda: pid_of(service, part) not in (0, old))
    if part in ENGINE:
        wait_for("the engine's answer", lambda: engine_answers(service))


def supervisor_is_gone(service: Service) -> None:
    """Take the exit status of a supervisor that was killed, and wait for the processes that end with it."""
    assert service.process is not None
    assert service.process.wait(10) == -signal.SIGKILL
    service.process = None
    wait_for("its processes to end", lambda: not running(service.instance), seconds=15)


def running(instance: Instance) -> Counter[str]:
    """How many processes of each child of a supervisor run for this instance."""
    return Counter(processes_of_children(instance).values())


def processes_of_children(instance: Instance) -> dict[int, str]:
    """Process id → name of every child of a supervisor of this instance, orphans too."""
    found: dict[int, str] = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and (name := _named(entry, instance)):
            found[int(entry.name)] = name
    return found


def _named(entry: pathlib.Path, instance: Instance) -> str:
    try:
        words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        variables = (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    if f"JACKIN_INSTANCE={instance.name}".encode() not in variables:
        return ""
    marks = {"agents.broker": "broker", "agents.host.guard": "guard", "agents.terminals": "terminals"}
    marks |= {"runner": "runner", "jackin_web.asgi:application": "daphne"}
    return next((name for mark, name in marks.items() if mark in words), "")


def launch_and_eject(web: WebClient, project: pathlib.Path) -> None:
    """A shell on the project, and its end."""
    key = web.launch([(str(project), "/workspace/project", "rw")])
    web.eject(key)


def one_of_each(service: Service) -> None:
    """Every part runs, none of them twice."""
    assert all(engine_pid(service.instance, program) for program in ENGINE)
    assert {path.stem for path in service.instance.run_root.glob("*.pid")} >= {"docker", *CHILDREN}
    wait_for("one process of each part", lambda: running(service.instance) == dict.fromkeys(CHILDREN, 1))
    shown = run("ps", "-wweo", "args").splitlines()
    for program in ENGINE:
        files = [line for line in shown if line.startswith(program) and f"{service.instance.host_dir}/" in line]
        assert len(files) == 1, files
