"""Workers and children of the broker: deadlines, shares, and nothing left over."""

from __future__ import annotations

import json
import os
import select
import signal
import time

import pytest

from agents.broker import owner, workers
from agents.broker.workers import MOST_STREAMS, STREAM, Worker, Workers


def finish(pool: Workers, worker: Worker) -> bool:
    assert worker.ended(wait=10)
    return pool.end(worker)


def test_a_worker_answers_and_has_no_descriptor_of_ours() -> None:
    pool = Workers()
    secret, other = os.pipe()
    try:
        worker = pool.start(
            lambda: {"open": sorted(map(int, os.listdir("/proc/self/fd")))},
            share="a",
            launch="",
            until=time.monotonic() + 9,
        )
        assert finish(pool, worker)
        opened = eval(bytes(worker.reply[4:]))["open"]
        assert not {secret, other} & set(opened) - {worker.pipe}
    finally:
        os.close(secret)
        os.close(other)
    assert not pool.lingering


def test_a_worker_that_dies_gives_no_answer() -> None:
    pool = Workers()
    worker = pool.start(
        lambda: os.kill(os.getpid(), signal.SIGKILL) or {}, share="a", launch="", until=time.monotonic() + 9
    )
    assert not finish(pool, worker)


def test_late_workers_are_killed() -> None:
    pool = Workers()
    worker = pool.start(lambda: signal.pause() or {}, share="a", launch="", until=time.monotonic() + 9)
    assert pool.kill_late() == []
    worker.until = time.monotonic() - 1
    assert pool.kill_late() == [worker]
    assert pool.kill_late() == []
    assert pool.next_deadline() is None
    assert not finish(pool, worker)
    assert not pool.lingering


def test_what_a_worker_leaves_behind_is_killed() -> None:
    pool = Workers()

    def fork_and_go() -> dict[str, object]:
        child = os.fork()
        if child == 0:
            signal.pause()
        return {"child": child}

    worker = pool.start(fork_and_go, share="a", launch="", until=time.monotonic() + 9)
    assert worker.ended(wait=10)
    pool.read(worker)
    left = os.pidfd_open(json.loads(bytes(worker.reply[4:]))["child"])
    try:
        assert pool.end(worker)
        poll = select.poll()
        poll.register(left, select.POLLIN)
        assert poll.poll(5000)
    finally:
        os.close(left)


def test_shares_are_bounded_and_launches_are_not_mixed() -> None:
    pool = Workers()
    started = [
        pool.start(lambda: signal.pause() or {}, share="alice", launch=f"{n}", until=time.monotonic() + 9)
        for n in range(workers.MOST_PER_SHARE)
    ]
    assert "alice" in pool.refusal(share="alice", launch="")
    assert not pool.refusal(share="bob", launch="")
    assert "launch" in pool.refusal(share="bob", launch="0")
    pool.kill_all()
    assert not pool.running
    assert not pool.lingering
    for worker in started:
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)


def test_a_group_that_cannot_be_reaped_keeps_its_share() -> None:
    pool = Workers()
    pool.lingering = dict.fromkeys(range(workers.MOST_PER_SHARE), "alice")
    assert "hang" in pool.refusal(share="alice", launch="")
    assert not pool.refusal(share="alice:launch", launch="")
    assert not pool.refusal(share="bob", launch="")


def test_what_hangs_of_many_accounts_keeps_nobody_else_waiting_but_has_an_end() -> None:
    pool = Workers()
    pool.lingering = {n: f"account{n // workers.MOST_PER_SHARE}" for n in range(2 * workers.MOST)}
    assert not pool.refusal(share="bob", launch="")
    pool.lingering = {n: f"account{n // workers.MOST_PER_SHARE}" for n in range(workers.MOST_PROCESSES)}
    assert "busy" in pool.refusal(share="bob", launch="")


def test_the_first_request_of_an_account_is_taken_however_busy_others_are() -> None:
    pool = Workers()
    try:
        for n in range(workers.MOST):
            share = f"account{n // workers.MOST_PER_SHARE}"
            assert not pool.refusal(share=share, launch="")
            pool.start(lambda: signal.pause() or {}, share=share, launch="", until=time.monotonic() + 9)
        assert not pool.refusal(share="bob", launch="")
        pool.start(lambda: signal.pause() or {}, share="bob", launch="", until=time.monotonic() + 9)
        assert "busy" in pool.refusal(share="bob", launch="")
    finally:
        pool.kill_all()


@pytest.mark.parametrize("kept", [set(), {0, 1, 2}, {5}])
def test_only_the_named_descriptors_stay_open(kept: set[int]) -> None:
    report, reporting = os.pipe()
    os.dup2(reporting, 200)
    os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 199)
    pid = os.fork()
    if pid == 0:
        try:
            owner.close_all_but({*kept, 200})
            still = [fd for fd in range(256) if _is_open(fd)]
            os.write(200, repr(still).encode())
        finally:
            os._exit(0)
    os.close(200)
    os.close(199)
    os.close(reporting)
    text = b""
    while piece := os.read(report, 4096):
        text += piece
    os.close(report)
    os.waitpid(pid, 0)
    assert {200} <= set(json.loads(text)) <= {*kept, 200}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_one_account_carries_one_state_at_a_time_and_nobody_else_waits_for_it() -> None:
    workers = Workers()
    for number in range(MOST_STREAMS):
        share = f"account{number}{STREAM}"
        assert workers.refusal(share=share, launch=f"{number}") == ""
        workers.running[number] = _running(share, launch=f"{number}")
        assert "Another state" in workers.refusal(share=share, launch="more")
    assert "being carried" in workers.refusal(share=f"late{STREAM}", launch="late")
    assert workers.refusal(share="account1", launch="") == "", "looking goes on"
    assert workers.refusal(share="account1:launch", launch="a" * 32) == ""


def test_a_state_is_carried_one_way_at_a_time() -> None:
    workers = Workers()
    workers.running[1] = _running(f"ann{STREAM}", launch="state")
    assert "Another state" in workers.refusal(share=f"ben{STREAM}", launch="state")


def _running(share: str, *, launch: str) -> Worker:
    return Worker(pid=0, pidfd=-1, pipe=-1, share=share, launch=launch, until=0.0)
