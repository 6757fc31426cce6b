"""The first process of an agent reaps what is orphaned and passes signals on; who ignores them is killed in time."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import secrets
import time
from collections.abc import Iterator

import pytest

from agents.engine.client import DockerEngine
from agents.operations.engines import BuiltinImages
from agents.operations.exiling import GRACE
from tests.support.engine_kit import RealKit, read_until, real_kit
from tests.support.machine import run
from tests.support.service import Service, wait_for

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def kit(service: Service) -> Iterator[RealKit]:
    """An engine kit whose image is the real one of a shell agent."""
    socket = str(service.instance.engine_socket)
    with real_kit(socket) as found:
        builder = DockerEngine(socket, instance=service.instance.name)
        made = BuiltinImages(
            builder, extra_ca=service.environment.get("JACKIN_EXTRA_CA", ""), published_construct=False
        )
        found.image = made("agent-smith", "shell", log=lambda line: None, cancelled=lambda: False)
        builder.close()
        yield found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agent:
    """A container; `pid` is its first process as the host sees it."""

    id: str
    pid: int
    says: object

    def family(self) -> dict[int, str]:
        """All processes below the first one, by pid: name and state."""
        found: dict[int, str] = {}
        _add_children(self.pid, found)
        return found


def _add_children(pid: int, found: dict[int, str]) -> None:
    with contextlib.suppress(OSError):
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            name, _, rest = pathlib.Path(f"/proc/{child}/stat").read_text().partition("(")[2].rpartition(")")
            found[int(child)] = f"{name} {rest.split()[0]}"
            _add_children(int(child), found)


@contextlib.contextmanager
def agent(kit: RealKit, *argv: str, types: str = "") -> Iterator[Agent]:
    """Runs `argv` behind the gate; `types` are commands for its shell, which has done them by then."""
    name = f"entry-{secrets.token_hex(3)}"  # networks stay until the kit closes
    spec = kit.launch_spec(name, argv=argv, env={"JACKIN_WORKDIR": "/workspace/project", "TERM": "xterm-256color"})
    container = kit.engine.create_container(spec)
    stream = kit.engine.attach(container)
    try:
        info = kit.engine.start(container)
        kit.engine.resize(container, rows=24, columns=80)
        kit.open_gate(spec)
        if types:
            stream.sendall(f"{types}\necho typed-$((40+2))\n".encode())
            read_until(stream, b"typed-42")
        yield Agent(id=container, pid=info.pid, says=stream)
    finally:
        stream.close()
        kit.engine.remove_container(container)


ORPHAN = "(sleep 0.5 &)"


def test_an_orphan_is_reaped(kit: RealKit) -> None:
    with agent(kit, "/bin/sh", "-c", f"{ORPHAN}; exec sleep 1000") as without:
        wait_for("a zombie, where nobody reaps", lambda: "sleep Z" in without.family().values())
    with agent(kit, "/jackin/entrypoint", "shell", types="true") as found:
        first = pathlib.Path(f"/proc/{found.pid}/comm").read_text().strip()
        docker_exec = ["exec", "--detach", found.id, "/bin/sh", "-c", ORPHAN]
        docker_on(kit, *docker_exec)
        wait_for("the orphan below the first process", lambda: "sleep S" in found.family().values())
        wait_for("its end", lambda: not any(one.startswith("sleep") for one in found.family().values()), seconds=5)
        assert first == "tini"


def docker_on(kit: RealKit, *arguments: str) -> str:
    return run("docker", "-H", f"unix://{kit.engine._pool.socket_path}", *arguments)


@pytest.mark.parametrize(("signal", "code"), [("HUP", 3), ("TERM", 4)])
def test_a_signal_reaches_the_runtime(kit: RealKit, signal: str, code: int) -> None:
    traps = "trap 'exit 3' HUP; trap 'exit 4' TERM"
    with agent(kit, "/jackin/entrypoint", "shell", types=traps) as found:
        docker_on(kit, "kill", "--signal", signal, found.id)
        wait_for("its end", lambda: _code(kit, found) is not None)
        assert _code(kit, found) == code


def test_an_eject_is_a_hang_up_that_the_runtime_sees(kit: RealKit) -> None:
    with agent(kit, "/jackin/entrypoint", "shell", types="trap 'exit 3' HUP") as found:
        began = time.monotonic()
        kit.engine.stop(found.id, grace=GRACE)
        assert (_code(kit, found), time.monotonic() - began < GRACE / 2) == (3, True)


def test_who_ignores_it_is_killed_after_ten_seconds_with_all_children(kit: RealKit) -> None:
    stubborn = "trap '' HUP TERM; setopt no_hup; (sleep 1000 &); sleep 1001 &"
    with agent(kit, "/jackin/entrypoint", "shell", types=stubborn) as found:
        wait_for("its children", lambda: list(found.family().values()).count("sleep S") == 2)
        family = [found.pid, *found.family()]
        began = time.monotonic()
        kit.engine.stop(found.id, grace=GRACE)
        took = time.monotonic() - began
        assert GRACE - 1 <= took <= GRACE + 8, took
        assert _code(kit, found) == 137
        assert not [pid for pid in family if pathlib.Path(f"/proc/{pid}").exists()]


def _code(kit: RealKit, found: Agent) -> int | None:
    info = kit.engine.container(found.id)
    assert info is not None
    return info.exit_code
