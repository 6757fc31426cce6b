"""Deleting a state as its owner: hostile trees go completely, and nothing else is touched."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from agents.broker import deleting

UID = 54321


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """A directory of root's in memory: `state` in it belongs to the account, `beside` must stay as it is."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="jkt-deleting-", dir="/dev/shm"))
    made.chmod(0o711)
    (made / "state").mkdir(mode=0o700)
    os.chown(made / "state", UID, UID)
    (made / "beside").mkdir(mode=0o777)
    (made / "beside").chmod(0o777)
    (made / "beside" / "file").write_text("stays")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def as_owner() -> Iterator[None]:
    os.setegid(UID)
    os.seteuid(UID)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def delete(place: pathlib.Path, *, seconds: float = 60) -> int:
    """Call again until it is done, as the runner does; how many entries went."""
    removed, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        done, count = deleting.delete_as(UID, place / "state", until=time.monotonic() + 6)
        removed += count
        if done:
            assert os.listdir(place / "state") == []
            assert (place / "beside" / "file").read_text() == "stays"
            return removed
    raise AssertionError("it never came to an end")


def test_modes_names_links_and_special_files(place: pathlib.Path) -> None:
    state = place / "state"
    with as_owner():
        (state / "a" / "b").mkdir(parents=True)
        (state / "a" / "b" / "file").write_text("x")
        (state / "away").symlink_to(place / "beside")
        (state / "a" / "etc").symlink_to("/etc")
        os.mkfifo(state / "pipe")
        (pathlib.Path(os.fsdecode(os.fsencode(state) + b"/\xff\xfe\n"))).mkdir()
        os.link(state / "a" / "b" / "file", state / "again")
        (state / "a" / "b").chmod(0)
        (state / "a").chmod(0)
        state.chmod(0)
    assert delete(place) == 8


def test_a_depth_of_five_thousand(place: pathlib.Path) -> None:
    with as_owner():
        fd = os.open(place / "state", os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(5000):
            os.mkdir("deeper", dir_fd=fd)
            inner = os.open("deeper", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.close(fd)
    assert delete(place) == 5000


def test_a_hundred_thousand_entries(place: pathlib.Path) -> None:
    with as_owner():
        for folder in range(100):
            where = place / "state" / str(folder)
            where.mkdir()
            fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
            for name in range(999):
                os.close(os.open(str(name), os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            os.close(fd)
    assert delete(place) == 100_000


def test_directories_swapped_for_links_meanwhile_lead_nowhere(place: pathlib.Path) -> None:
    """Somebody who kept a descriptor goes on exchanging directories and links to what is beside."""
    for number in range(300):
        (place / "state" / f"d{number}" / "in").mkdir(parents=True)
        (place / "state" / f"d{number}" / "in" / "file").write_text("x")
        for part in (f"d{number}", f"d{number}/in", f"d{number}/in/file"):
            os.chown(place / "state" / part, UID, UID)
    kept = os.open(place / "state", os.O_RDONLY | os.O_DIRECTORY)
    stop = threading.Event()

    def swap() -> None:
        number = 0
        while not stop.is_set():
            name, number = f"d{number % 300}", number + 1
            with contextlib.suppress(OSError):
                os.rename(name, f"{name}.away", src_dir_fd=kept, dst_dir_fd=kept)
                os.symlink(place / "beside", name, dir_fd=kept)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(20):
            deleting.delete_as(UID, place / "state", until=time.monotonic() + 2)
    finally:
        stop.set()
        thread.join()
        os.close(kept)
    delete(place)


def test_a_directory_that_becomes_a_link_at_the_worst_moment_leads_nowhere(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after it was found to be a directory with something in it."""
    removed = deleting._removed

    def swapping(parent: int, name: bytes, counted: deleting._Counted) -> bool:
        done = removed(parent, name, counted)
        if not done and not name.endswith(b".away"):
            os.rename(name, name + b".away", src_dir_fd=parent, dst_dir_fd=parent)
            os.symlink(place / "beside", name, dir_fd=parent)
        return done

    with as_owner():
        for number in range(5):
            (place / "state" / f"d{number}" / "in").mkdir(parents=True)
            (place / "state" / f"d{number}" / "in" / "file").write_text("x")
    monkeypatch.setattr(deleting, "_removed", swapping)
    delete(place)


def test_what_belongs_to_somebody_else_is_refused_or_left_for_the_next_time(place: pathlib.Path) -> None:
    os.chown(place / "state", 0, 0)
    with pytest.raises(deleting.Refusal):
        deleting.delete_as(UID, place / "state", until=time.monotonic() + 3)
    assert (place / "state").is_dir()
