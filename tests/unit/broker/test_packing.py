"""Hostile trees, packed by a real account without rights; logins that stay out."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import os
import pathlib
import socket
import tarfile
import threading
from typing import Any

import pytest

from agents.broker import logins, packing, tars
from tests.support import as_owner
from tests.unit.broker.tar_kit import Add, entry, hostile, names, owned, packed, place, said  # noqa: F401


def test_a_tree_of_everything_comes_back(place: pathlib.Path) -> None:
    state = place / "state"
    (state / "deep").mkdir()
    long = "n" * 120
    (state / "deep" / long).write_text("long name")
    (state / "link").symlink_to("t" * 200)
    (state / "up").symlink_to("../outside/file")
    odd = os.fsencode(state) + b"/\xff\xfe\n"
    with open(odd, "wb") as file:
        file.write(b"odd")
    os.mkfifo(state / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(state / "sock"))
    with (state / "sparse").open("wb") as file:
        file.truncate(5_000_000)
    (state / "set-id").write_text("x")
    numbers = packed(place)
    os.chmod(state / "set-id", 0o6755)
    numbers = packed(place)
    assert (numbers["skipped"], numbers["entries"]) == (2, 7)
    assert said(place) == ""
    target = place / "target"
    assert (target / "deep" / long).read_text() == "long name"
    assert os.readlink(target / "link") == "t" * 200
    with open(os.fsencode(target) + b"/\xff\xfe\n", "rb") as file:
        assert file.read() == b"odd"
    assert (target / "sparse").stat().st_size == 5_000_000
    assert not (target / "set-id").stat().st_mode & 0o6000
    assert not (target / "pipe").exists()


def test_links_are_not_followed_and_hard_links_are_stored_once(place: pathlib.Path) -> None:
    state = place / "state"
    (state / "folder").symlink_to(place / "outside")
    (state / "one").write_bytes(b"1" * 100_000)
    (state / "two").hardlink_to(state / "one")
    numbers = packed(place)
    assert numbers["bytes"] == 100_000
    with tarfile.open(place / "tar") as tar:
        kinds = {member.name: member.type for member in tar}
    assert kinds == {"folder": tarfile.SYMTYPE, "one": tarfile.REGTYPE, "two": tarfile.LNKTYPE}


def test_another_name_of_a_login_file_stays_out(place: pathlib.Path) -> None:
    state = place / "state"
    (state / ".claude").mkdir()
    (state / ".claude" / ".credentials.json").write_text("token")
    (state / "innocent").hardlink_to(state / ".claude" / ".credentials.json")
    (state / ".claude" / ".credentials.json.tmp").write_text("token")
    assert packed(place)["logins_left_out"] == 3
    assert names(place) == [".claude"]
    assert packed(place, with_logins=True)["logins_left_out"] == 0
    assert b"token" in (place / "tar").read_bytes()


def test_what_the_owner_cannot_read_is_refused_by_name(place: pathlib.Path) -> None:
    (place / "state" / "closed").mkdir()
    owned(place / "state")
    (place / "state" / "closed").chmod(0)
    answer = as_owner.pack(str(place / "state"), str(place / "tar"))
    assert answer["refused"] == ["unreadable", {"path": "closed"}]


def test_a_sparse_terabyte_is_refused_before_it_is_read(place: pathlib.Path) -> None:
    with (place / "state" / "huge").open("wb") as file:
        file.truncate(2**40)
    assert packed(place)["refused"][0] == "state-too-large"


def test_a_tree_that_is_too_deep_is_refused(place: pathlib.Path) -> None:
    deep = place / "state"
    for _ in range(tars.MOST_DEPTH + 1):
        deep = deep / "d"
        deep.mkdir()
    answer = packed(place)
    assert (answer["refused"][0], "deeper" in answer["refused"][1]["reason"]) == ("state-too-large", True)


def test_100_000_entries_go_there_and_back(place: pathlib.Path) -> None:
    for folder in range(100):
        made = place / "state" / str(folder)
        made.mkdir()
        for number in range(1000):
            os.close(os.open(made / str(number), os.O_CREAT | os.O_WRONLY, 0o644))
    assert packed(place)["entries"] == 100_100
    assert said(place) == ""
    assert sum(len(os.listdir(each)) for each in (place / "target").iterdir()) == 100_000


def test_more_entries_than_are_allowed_are_refused(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MOST_ENTRIES", 50)
    for number in range(51):
        (place / "state" / str(number)).touch()
    assert packed(place)["refused"][0] == "state-too-large"


def test_a_file_that_changes_its_size_keeps_the_declared_one(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = place / "state"
    for name in ("grows", "shrinks"):
        (state / name).write_bytes(b"1" * 1000)
    put = packing.Packer._put

    def put_and_change(self: Any, entry: tars.Entry) -> None:
        put(self, entry)
        os.truncate(state / os.fsdecode(entry.name), 500 if entry.name == b"shrinks" else 5000)

    monkeypatch.setattr(packing.Packer, "_put", put_and_change)
    (place).chmod(0o755)
    state.chmod(0o777)
    numbers = packed(place)
    assert numbers["changed"] == 1
    with tarfile.open(place / "tar") as tar:
        assert [(m.name, m.size) for m in tar] == [("grows", 1000), ("shrinks", 1000)]
        shrunk = tar.extractfile("shrinks")
        assert shrunk is not None
        assert shrunk.read() == b"1" * 500 + bytes(500)
    assert said(place) == ""


def test_directories_swapped_for_links_meanwhile_lead_nowhere(place: pathlib.Path) -> None:
    state = place / "state"
    for number in range(50):
        (state / f"d{number:02}").mkdir()
        (state / f"d{number:02}" / "file").write_text("inside")
    owned(state)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for number in range(50):
                name = state / f"d{number:02}"
                aside = state.parent / f"aside{number}"
                name.rename(aside)
                name.symlink_to(place / "outside")
                name.unlink()
                aside.rename(name)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(20):
            as_owner.pack(str(state), str(place / "tar"))
            assert b"outside" not in (place / "tar").read_bytes().replace(os.fsencode(place / "outside"), b"")
    finally:
        stop.set()
        thread.join()


# Logins


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b".claude/.credentials.json", "leave"),
        (b".claude/.credentials.json.bak", "leave"),
        (b".claude/.credentials.json/x", "leave"),
        (b".config/gh/hosts.yml", "leave"),
        (b".config/gh/config.yml", ""),
        (b".claude/.claude.json", "scrub"),
        (b".claude/.claude.json.backup.17", "scrub"),
        (b".claude/backups/.claude.json.1", "scrub"),
        (b".claude/settings.json", ""),
        (b"plugins.json", ""),
    ],
)
def test_which_files_hold_logins(name: bytes, kind: str) -> None:
    assert logins.kind(name) == kind


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"a": ' * 100_000])
def test_a_configuration_that_cannot_be_read_stays_out(content: bytes) -> None:
    assert logins.scrubbed(content) is None


def test_a_configuration_without_logins_stays_as_it_is() -> None:
    assert logins.scrubbed(b'{"a":  1}') == b'{"a":  1}'
    assert logins.scrubbed(b'{"a": 1, "oauthAccount": {}}') == b'{\n  "a": 1\n}'
