"""The gate's script in the program that runs it, and the moment before a container's first program."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from agents.broker import admit, gate
from agents.broker.protocol import Refusal
from tests.support.service import wait_for

Gate = tuple[pathlib.Path, "subprocess.Popen[bytes]"]


def sleeps(pid: int) -> bool:
    """Whether the process waits for something: here it can only be the other end of its fifo."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "S"


def handle_hang_ups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def waiting(tmp_path: pathlib.Path) -> Iterator[Gate]:
    """A gate that waits, with the script's directory moved to one of ours."""
    gate.make(str(tmp_path), busybox=pathlib.Path("/usr/bin/busybox"), owner=os.getuid())
    tmp_path.chmod(0o755)
    script = tmp_path / "here"
    script.write_text((tmp_path / "gate").read_text().replace(gate.GATE_DIR, str(tmp_path)))
    argv = [f"{tmp_path}/busybox", "sh", str(script), f"{tmp_path}/busybox", "echo", "through"]
    # A shell cannot handle what it was started with as ignored, as below nohup.
    with subprocess.Popen(argv, stdout=subprocess.PIPE, preexec_fn=handle_hang_ups) as process:
        until = time.monotonic() + 10
        while not sleeps(process.pid) and time.monotonic() < until:
            select.select([], [], [], 0.01)
        yield tmp_path, process
        process.kill()


def caught(pid: int) -> int:
    """The set of signals that the process handles, as a number."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_stop_while_it_waits_ends_it_at_once(waiting: Gate, number: signal.Signals) -> None:
    """It handles the signal: the first process of a container never gets one that it has no handler for."""
    _, process = waiting
    wait_for("its handler", lambda: caught(process.pid) & 1 << (number - 1), seconds=10)
    process.send_signal(number)
    output, _ = process.communicate(timeout=5)
    assert output == b"", "what is behind the gate never ran"
    assert process.returncode >= 0


def test_the_word_opens_it(waiting: Gate) -> None:
    directory, process = waiting
    pidfd = os.pidfd_open(process.pid)
    try:
        gate.open_gate(str(directory), pidfd)
    finally:
        os.close(pidfd)
    output, _ = process.communicate(timeout=5)
    assert (output, process.returncode) == (b"through\n", 0)


BECOMES = "import os; os.read(0, 1); os.execv('/usr/bin/busybox', ['busybox', 'sleep', '60'])"


def test_admit_waits_for_the_first_program(tmp_path: pathlib.Path) -> None:
    (tmp_path / "init").write_text(BECOMES)
    with subprocess.Popen(["runc", "init"], executable=sys.executable, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        try:
            assert admit._before_exec(process.pid)
            assert process.stdin is not None
            process.stdin.write(b"x")
            process.stdin.flush()
            admit._wait_for_program(process.pid, pidfd)
            assert not admit._before_exec(process.pid)
        finally:
            os.close(pidfd)
            process.kill()


def test_admit_waits_no_longer_than_the_process_lives(tmp_path: pathlib.Path) -> None:
    (tmp_path / "init").write_text("import os; os.read(0, 1)")
    process = subprocess.Popen(["runc", "init"], executable=sys.executable, cwd=tmp_path, stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(process.pid)
    try:
        process.kill()
        with pytest.raises((Refusal, FileNotFoundError)):
            admit._wait_for_program(process.pid, pidfd)
    finally:
        os.close(pidfd)
        process.communicate(timeout=5)


def test_a_program_that_needs_a_loader_is_no_gate(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader would be the image's."""
    monkeypatch.setattr(gate, "_SYSTEM", pathlib.Path("/bin/sh"))
    assert b"ld-linux" in pathlib.Path("/bin/sh").read_bytes(), "else this shows nothing"
    with pytest.raises(Refusal, match="no static busybox"):
        gate.make(str(tmp_path), busybox=pathlib.Path("/bin/sh"), owner=os.getuid())
