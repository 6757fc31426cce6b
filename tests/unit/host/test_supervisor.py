"""The supervisor and processes that do not behave."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import threading
from collections.abc import Iterator

import pytest

from agents.host.children import Child
from agents.host.supervisor import Supervisor

# Its first process ends at once; what it leaves behind writes as fast as it can.
FLOOD = 'yes "$(printf "%01000d" 0)" & echo $! >>"$1"; exit 3'


@pytest.fixture
def left_behind(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    noted = tmp_path / "left-behind"
    yield noted
    for line in noted.read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line), signal.SIGKILL)


def test_a_flood_of_output_after_a_death_holds_nothing_up(tmp_path: pathlib.Path, left_behind: pathlib.Path) -> None:
    child = Child(
        name="flood", argv=("/bin/sh", "-c", FLOOD, "sh", str(left_behind)), env={"PATH": "/usr/bin:/bin"}, cwd=tmp_path
    )
    before = len(os.listdir("/proc/self/fd"))
    supervisor = Supervisor(
        [child], listening={}, logs=tmp_path, pids=tmp_path, engine_dead=lambda: "", engine_start=lambda: None
    )
    reasons: list[str] = []
    running = threading.Thread(target=lambda: reasons.append(supervisor.run()), daemon=True)
    running.start()
    running.join(timeout=30)
    assert reasons == ["flood does not stay up"]
    kept = len(os.listdir("/proc/self/fd"))
    assert kept - before <= 4, "its own: two ends of a pipe, the selector, the log; no pipe of an earlier life"
    supervisor.stop()
