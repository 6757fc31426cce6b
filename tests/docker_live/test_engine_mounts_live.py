"""The engine's own mount namespace: its data is open there and nowhere else, and it outlives the engine."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import os
import signal
import stat

from agents.host import mount_ns
from agents.host.own_engine import OwnEngine, mounts_below
from agents.host.trial import Trials
from tests.docker_live.test_host_live import INSTANCE, _output, _started, engine, made, place, wait_for  # noqa: F401


def test_the_engines_data_is_open_in_its_own_mount_namespace_only(engine: OwnEngine, made: Trials) -> None:
    container = _started(engine, made)
    namespace = mount_ns.of_running(INSTANCE)
    place = str(INSTANCE.engine_dir)
    assert oct(os.stat(place).st_mode) == oct(stat.S_IFDIR | 0o700)
    assert _output("nsenter", f"--mount={namespace}", "stat", "-c", "%a %u", place) == "711 0\n"
    assert mounts_below(INSTANCE.engine_dir) == []  # what a container is made of is not even named on the host
    before, pid = os.readlink(namespace), _pid(engine, container)
    for found in engine.found.values():
        os.kill(found.pid, signal.SIGKILL)
    wait_for("both to end", lambda: not any(found.alive() for found in engine.found.values()))
    assert os.readlink(mount_ns.of_running(INSTANCE)) == before  # the container's keeper lives in it
    engine.ensure_running()
    assert {os.readlink(f"/proc/{found.pid}/ns/mnt") for found in engine.found.values()} == {before}
    assert _pid(engine, container) == pid


def _pid(engine: OwnEngine, container: str) -> int:
    return int(engine.api.json("GET", f"/containers/{container}/json")["State"]["Pid"])
