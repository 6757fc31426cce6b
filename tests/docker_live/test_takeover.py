"""Whoever has taken over daphne opens no socket but its two, changes none of our files, harms none of our processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import pwd
import re
import signal
import stat
import subprocess
from collections.abc import Iterator

import pytest

from agents.broker import wire
from agents.host import processes
from agents.host.instance import USER_RUN, USER_WEB, Instance
from agents.host.shell import as_user
from tests.support.fixtures import Person
from tests.support.machine import docker, run
from tests.support.service import Service, wait_for
from tests.support.takeover import as_pages
from tests.support.takeover_programs import CHANGE, CONNECT, PROCESS, READ

PARTS = ("broker", "guard", "terminals", "runner")
DEEP = 4  # levels of the engine's data that are looked at: below lie the images' own trees
EACCES, EPERM = 13, 1


@pytest.fixture
def own_file() -> Iterator[str]:
    """A file of the attacker's, on a file system of its own choice."""
    place = pathlib.Path(run("mktemp", "-d", "/var/lib/jkt-own-XXXXXX").strip())
    run("install", "-o", USER_WEB, "-m", "0666", "/dev/null", str(place / "file"))
    run("chown", USER_WEB, str(place))
    yield str(place / "file")
    run("rm", "-rf", str(place))


def our_places(instance: Instance) -> list[str]:
    """Every directory, file, link and socket of ours that is not the pages' own."""
    found = run("find", str(instance.data), str(instance.code), str(instance.logs), "-mindepth", "0").splitlines()
    engine = str(instance.engine_dir)
    kept = [one for one in found if not one.startswith(f"{engine}/") or one.count("/") - engine.count("/") <= DEEP]
    kept = [one for one in kept if one != str(instance.web) and not one.startswith(f"{instance.web}/")]
    above = [str(path) for place in (instance.data, instance.code, instance.logs) for path in place.parents]
    return [*kept, *above, f"/run/netns/{instance.netns}", "/run/netns", "/run/containerd", "/run/containerd/s"]


def digest(instance: Instance) -> dict[str, object]:
    """What the attacker must not change: owner and mode of everything, the content of what stands still."""
    found: dict[str, object] = {}
    for name in our_places(instance):
        place = pathlib.Path(name)
        with contextlib.suppress(FileNotFoundError):  # the engine's own short-lived files
            status = place.lstat()
            found[name] = [oct(status.st_mode), status.st_uid, status.st_gid]
            still = place.is_relative_to(instance.code) or place.is_relative_to(instance.keys)
            if still and stat.S_ISREG(status.st_mode):
                found[name] = [found[name], hashlib.sha256(place.read_bytes()).hexdigest()]
    moving = (str(instance.run_root), str(instance.engine_dir), str(instance.logs), str(instance.host_dir))
    return {name: value for name, value in found.items() if not name.startswith(tuple(f"{one}/" for one in moving))}


def our_sockets(instance: Instance) -> list[str]:
    """Every unix socket of the service, its engine and the shims, and each of them through the processes' own roots."""
    found = run("find", str(instance.data), "/run/containerd", "-type", "s", check=False).splitlines()
    expected = (instance.engine_socket, instance.broker_socket, instance.guard_socket, instance.feed_socket)
    assert {str(path) for path in expected} <= set(found)
    pid = (instance.run_root / "broker.pid").read_text().strip()
    return [*found, *(f"/proc/{pid}/root{path}" for path in expected)]


def our_processes(service: Service) -> list[int]:
    """Supervisor, engine and every part but the taken one."""
    assert service.process is not None
    found = [service.process.pid, *(service.child(name) for name in PARTS)]
    for program in ("dockerd", "containerd"):
        for word in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = word.read_bytes().split(b"\0")
                if line[0].endswith(program.encode()) and str(service.instance.host_dir).encode() in b" ".join(line):
                    found.append(int(word.parent.name))
    assert len(found) == 1 + len(PARTS) + 2
    return found


def test_the_attacker_has_exactly_daphnes_rights(service: Service) -> None:
    words = ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp")
    lines = pathlib.Path(f"/proc/{service.child('daphne')}/status").read_text().splitlines()
    program = "import json; print(json.dumps(open('/proc/self/status').read().splitlines()))"
    mine = as_pages(program)
    for word in words:
        assert [one for one in mine if one.startswith(word)] == [one for one in lines if one.startswith(word)]
    assert any(line.split() == ["CapEff:", "0000000000000000"] for line in mine)


def test_only_the_runners_and_the_terminals_sockets_open(service: Service) -> None:
    instance = service.instance
    own = {str(instance.runner_socket), str(instance.terminals_socket)}
    answers = as_pages(CONNECT, text=json.dumps(our_sockets(instance)))
    assert {path for path, code in answers.items() if code == 0} == own
    assert {code for path, code in answers.items() if path not in own} == {EACCES}
    for path in (instance.engine_socket, instance.broker_socket, instance.guard_socket):  # they do listen
        assert as_pages(CONNECT, text=json.dumps([str(path)]), user=USER_RUN) == {str(path): 0}


def test_no_file_of_ours_can_be_changed(service: Service, own_file: str) -> None:
    instance = service.instance
    places, before = our_places(instance), digest(instance)
    assert as_pages(CHANGE, own_file, text=json.dumps(places)) == []
    assert digest(instance) == before
    probe = instance.web / "probe"  # the attack itself works where it may
    probe.touch()
    os.chown(probe, pwd.getpwnam(USER_WEB).pw_uid, -1)
    done = as_pages(CHANGE, own_file, text=json.dumps([str(probe)]))
    assert {"chmod", "append", "truncate", "rename"} <= {what for what, _ in done}
    probe.with_name("probe.gone").unlink(missing_ok=True)
    probe.unlink(missing_ok=True)


def test_the_scripts_that_browsers_run_are_roots(service: Service) -> None:
    page = service.url + "/login"
    script = as_pages(
        "import json, re, sys, urllib.request\n"
        "text = urllib.request.urlopen(sys.argv[1]).read().decode()\n"
        'print(json.dumps(re.findall(r\'(?:src|href)="(/static/[^"]+)"\', text)))',
        page,
    )
    assert script
    release = pathlib.Path(os.readlink(service.instance.code / "current"))
    for address in script:
        file = release / "staticfiles" / address.removeprefix("/static/").partition("#")[0]
        assert (file.is_file(), file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (True, 0, 0o644)
    assert not (service.instance.web / "static").exists()


def test_nothing_that_is_roots_or_another_persons_can_be_read(service: Service, owner: Person) -> None:
    instance = service.instance
    (instance.keys / "probe").write_text("secret")
    closed = [
        instance.keys, instance.keys / "links.json", instance.keys / "secret-key", instance.keys / "probe",
        instance.host_dir, instance.host_dir / "settings.json", instance.states, instance.stage, instance.trash,
        instance.run_root, instance.engine_dir / "data", instance.engine_dir / "containerd", instance.logs,
        instance.logs / "runner.log", owner.home, pathlib.Path("/etc/shadow"), pathlib.Path("/root"),
    ]  # fmt: skip
    assert all(os.path.lexists(path) for path in closed)
    assert as_pages(READ, text=json.dumps([*map(str, closed)])) == []
    (instance.keys / "probe").unlink()


def test_no_process_of_ours_can_be_looked_into_or_signalled(service: Service) -> None:
    before = our_processes(service)
    assert as_pages(PROCESS, text=json.dumps(before)) == []
    assert our_processes(service) == before
    with subprocess.Popen(as_user(USER_WEB, ["/usr/bin/sleep", "600"])) as own:  # the attack itself works where it may
        wait_for(
            "the sleeper", lambda: b"sleep" in pathlib.Path(f"/proc/{own.pid}/cmdline").read_bytes().split(b"/")[-1]
        )
        done = {what for what, _ in as_pages(PROCESS, text=json.dumps([own.pid]))}
        assert own.wait(10) == -signal.SIGKILL
    assert {"signal 0", "environ", "exe", "priority"} <= done


def test_the_pages_account_can_write_nowhere_that_nobody_cannot(service: Service) -> None:
    places = ["/etc", "/usr", "/var", "/opt", "/run", "/home", "/root", "/srv", "/boot", "/dev", "/sys/fs/cgroup"]
    places += [str(place) for place in (service.instance.web, service.instance.run_web)]  # 0711 above: never found
    command = ["find", *places, "-not", "-type", "l", "-writable", "-print"]
    program = (
        "import json, subprocess, sys\n"
        "found = subprocess.run(sys.argv[1:], capture_output=True, text=True, errors='replace')\n"
        "print(json.dumps(found.stdout.splitlines()))"
    )
    mine, everybodys = (set(as_pages(program, *command, user=user)) for user in (USER_WEB, "daemon"))
    ours = (str(service.instance.data), str(service.instance.code), str(service.instance.logs))
    assert not [one for one in everybodys if one.startswith(ours)]
    # Of all instances on the machine: they share the account.
    may = re.compile(r"/var/lib/jackin-web[^/]*/(web(/.*)?|run-web/(runner|terminals)\.sock)")
    assert str(service.instance.web) in mine
    assert [one for one in mine - everybodys if not may.fullmatch(one)] == []


def test_the_broker_itself_lets_nobody_else_in(service: Service) -> None:
    """Were the socket's mode lost, the kernel's word on who connects would still stand."""
    instance = service.instance
    instance.run_root.chmod(0o755)
    instance.broker_socket.chmod(0o666)
    try:
        program = CONNECT.replace("answers[path] = 0", "answers[path] = len(client.recv(1)) - 1")
        assert as_pages(program, text=json.dumps([str(instance.broker_socket)])) == {str(instance.broker_socket): -1}
    finally:
        instance.broker_socket.chmod(0o660)
        instance.run_root.chmod(0o750)
    assert wire.call(instance.broker_socket, {"v": 1, "op": "staged"}, timeout=5)["ok"]
    assert processes.of_user(pwd.getpwnam(USER_WEB).pw_uid)
    assert docker(instance, "info", "--format", "{{.ID}}")
