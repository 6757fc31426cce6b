"""The archiver: the real process as its own account, spoken to by the runner's client."""

from __future__ import annotations

import os
import pathlib
import pwd
import secrets
import select
import socket
import subprocess

import pytest

from agents.archiver import store, stream
from agents.archiver.stream import Problem
from agents.broker import tars, wire
from agents.engine.errors import ArchiveRefused, ArchiveUnreachable, BrokerRefused
from agents.host.instance import USER_ARCH
from tests.support.archiver import Archiver
from tests.support.service import wait_for
from tests.unit.archiver.kit import SAID, TAR, kept, key, pour, taken, verified


def test_it_runs_as_its_own_account_with_nothing_else_open(process: Archiver) -> None:
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    uid = pwd.getpwnam(USER_ARCH).pw_uid
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    kept(process.client, key())
    assert {found.stat().st_uid for found in process.snapshots.rglob("*")} == {uid}
    assert all(found.stat().st_mode & 0o077 == 0 for found in process.snapshots.rglob("*"))


def test_the_file_is_plain_zstd_of_the_tar_with_the_sum_in_its_manifest(process: Archiver) -> None:
    import hashlib
    import io

    import zstandard

    name = key()
    kept(process.client, name)
    file = process.snapshots / name / store.CONTENT
    assert zstandard.ZstdDecompressor().stream_reader(io.BytesIO(file.read_bytes())).read() == TAR
    assert process.client.manifest(name)["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, TAR[:100_000], TAR[:-1024], TAR + b"more"])
def test_a_stream_that_is_no_whole_tar_is_not_kept(process: Archiver, content: bytes) -> None:
    before = process.files()
    with pytest.raises(ArchiveRefused, match="damaged"):
        kept(process.client, key(), content=content)
    assert process.files() == before


def test_numbers_that_are_not_those_of_the_tar_are_not_kept(process: Archiver) -> None:
    before = process.files()
    for wrong in ({**SAID, "entries": 2}, {**SAID, "bytes": 1}):
        with pytest.raises(ArchiveRefused, match="written down"):
            kept(process.client, key(), said=wrong)
    assert process.files() == before


def test_a_file_that_was_changed_is_not_given(process: Archiver) -> None:
    name = key()
    kept(process.client, name)
    file = process.snapshots / name / store.CONTENT
    content = bytearray(file.read_bytes())
    for damaged in (content[:-1], content[:1000] + b"\0" + content[1001:], content + b"x", b""):
        file.write_bytes(damaged)
        for ask in (lambda changed: verified(process.client, changed), lambda changed: taken(process.client, changed)):
            with pytest.raises((ArchiveRefused, BrokerRefused)) as refused:
                ask(name)
            assert "damaged" in str(refused.value)
    file.write_bytes(content)
    assert taken(process.client, name) == TAR
    file.unlink()
    with pytest.raises(ArchiveRefused, match="content is gone"):
        verified(process.client, name)


def test_a_kill_half_way_is_said_and_nothing_is_left_after_the_next_start(process: Archiver) -> None:
    before = process.files()

    def source(fd: int) -> None:
        with open(fd, "wb", closefd=False) as file:
            file.write(secrets.token_bytes(1_000_000))
            file.flush()
            wait_for("a draft", lambda: len(process.files()) > len(before))
            process.kill()
            file.write(secrets.token_bytes(1_000_000))

    with (
        pytest.raises((ArchiveUnreachable, BrokenPipeError)),
        process.client.draft(key(), progress=lambda done: None, cancelled=lambda: False) as draft,
    ):
        draft.fill(source)
    assert process.files() != before
    process.start()
    assert process.files() == before


def test_a_client_that_goes_away_while_the_source_stands_still(process: Archiver) -> None:
    before = process.files()
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(process.data / "archiver.sock"))
        socket.send_fds(sock, [wire.encode({"op": "store", "key": key()})], [reader])
        os.close(reader)
        wait_for("a draft", lambda: process.files() != before)
    wait_for("nothing left", lambda: process.files() == before)
    wait_for("the other end to be closed", lambda: is_broken(writer))
    os.close(writer)


def is_broken(writer: int) -> bool:
    """Whether nobody has the other end of the pipe any more."""
    poll = select.poll()
    poll.register(writer, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"op": "nothing"},
        {"op": "remove", "key": "../x"},
        {"op": "verify", "key": 7},
        {"op": "manifest", "key": "F" * 32},
        {"op": "store", "key": "0" * 32},
        {"op": "give", "key": "0" * 32},
    ],
)
def test_nonsense_is_refused(process: Archiver, request_: dict[str, object]) -> None:
    reply = wire.call(str(process.data / "archiver.sock"), request_, timeout=5)
    assert reply["code"] == "bad-request"


def test_a_descriptor_that_nobody_asked_for_is_refused_and_closed(process: Archiver) -> None:
    reader, writer = os.pipe()
    path = str(process.data / "archiver.sock")
    assert wire.call(path, {"op": "list"}, timeout=5, descriptors=[writer])["code"] == "bad-request"
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_no_other_account_is_answered(process: Archiver, place: pathlib.Path) -> None:
    path = place / "archiver.sock"
    path.chmod(0o777)
    code = f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({str(path)!r})\nprint(s.recv(1))"
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--clear-groups", "/usr/bin/python3", "-c", code],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.stdout.strip() == "b''") or "ConnectionReset" in done.stderr, done
    assert process.client.all_keys() is not None


def test_a_list_longer_than_an_answer_comes_in_pieces(process: Archiver, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(f"{number:032x}" for number in range(6000))
    for name in names:
        (process.snapshots / name).mkdir()
    try:
        assert set(names) <= set(process.client.all_keys())
    finally:
        for name in names:
            (process.snapshots / name).rmdir()


# Bounds


def test_a_full_disk_is_said_and_leaves_nothing(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = place / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(small)], check=True)
    try:
        for spare, match in ((stream.SPARE, "MiB free"), (0, "is full")):
            monkeypatch.setattr(stream, "SPARE", spare)
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                try:
                    pour()(writer)
                finally:
                    os._exit(0)
            os.close(writer)
            quiet, other = socket.socketpair()
            with pytest.raises(Problem, match=match), store.Store(small).draft(key()) as draft:
                draft.fill(reader, received=lambda came: None, hangup=quiet.fileno())
            os.close(reader)
            os.waitpid(pid, 0)
            quiet.close()
            other.close()
            assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_gigabytes_of_zeros_are_read_back_in_little_memory(process: Archiver) -> None:
    size = 2 * 1024**3

    def source(fd: int) -> None:
        with open(fd, "wb", closefd=False) as file:
            file.write(tars.header(tars.Entry(name=b"zeros", kind=tars.FILE, size=size)))
            for _ in range(size // 2**20):
                file.write(bytes(2**20))
            file.write(tars.END)

    name = key()
    with process.client.draft(name, progress=lambda done: None, cancelled=lambda: False) as draft:
        draft.fill(source)
        draft.keep({"entries": 1, "bytes": size})
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    most = int(status.partition("VmHWM:")[2].split()[0]) // 1024
    assert most < 300, f"{most} MiB"
    assert (process.snapshots / name / store.CONTENT).stat().st_size < 2**20
    process.client.remove(name)
