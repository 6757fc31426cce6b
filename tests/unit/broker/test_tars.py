"""States as tars: hostile trees and hostile tars, as a real account without rights."""

from __future__ import annotations

import io
import os
import pathlib
import socket
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.broker import logins, packing, tars
from tests.support import as_owner
from tests.support.as_owner import UID

Add = Callable[[tarfile.TarFile], None]


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """A directory that UID can enter, with `state`, `target` (its own) and `outside` (root's, nobody's business)."""
    import shutil
    import tempfile

    assert os.geteuid() == 0, "needs root"
    made = pathlib.Path(tempfile.mkdtemp(prefix="jkt-tar-", dir="/dev/shm"))
    made.chmod(0o755)
    for name in ("state", "target"):
        (made / name).mkdir(mode=0o700)
        os.chown(made / name, UID, UID)
    (made / "outside").mkdir(mode=0o777)
    (made / "outside").chmod(0o777)
    (made / "outside" / "file").write_text("outside")
    (made / "outside" / "file").chmod(0o666)
    yield made
    shutil.rmtree(made)


def owned(state: pathlib.Path) -> None:
    for folder, _, files in os.walk(os.fsencode(state)):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.lchown(path, UID, UID)


def packed(place: pathlib.Path, **options: bool) -> dict[str, Any]:
    owned(place / "state")
    return as_owner.pack(str(place / "state"), str(place / "tar"), **options)


def names(place: pathlib.Path) -> list[str]:
    with tarfile.open(place / "tar") as tar:
        return tar.getnames()


def hostile(place: pathlib.Path, *adds: Add) -> str:
    """What is said of a tar that was made by these; all that was made before the refusal stays in `target`."""
    with tarfile.open(place / "tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for add in adds:
            add(tar)
    return said(place)


def said(place: pathlib.Path) -> str:
    answer = as_owner.unpack(str(place / "tar"), str(place / "target"))
    return str(answer["refused"][1]["reason"]) if "refused" in answer else ""


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, content: bytes = b"x", link: str = "", mode: int = 0o644) -> Add:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return lambda tar: tar.addfile(info, io.BytesIO(content))


# Hostile tars


def test_the_control_a_plain_tar_is_taken(place: pathlib.Path) -> None:
    folder = entry("d", tarfile.DIRTYPE, mode=0o500)
    more = (entry("d/f"), entry("d/l", tarfile.SYMTYPE, link="/etc/passwd"), entry("h", tarfile.LNKTYPE, link="d/f"))
    assert hostile(place, folder, *more) == ""
    assert (place / "target" / "d" / "f").read_bytes() == b"x"
    assert (place / "target" / "h").stat().st_nlink == 2
    assert os.readlink(place / "target" / "d" / "l") == "/etc/passwd"
    assert stat.S_IMODE((place / "target" / "d").stat().st_mode) == 0o500
    assert {found.lstat().st_uid for found in (place / "target").rglob("*")} == {UID}


DIRECTORY = entry("d", tarfile.DIRTYPE)


@pytest.mark.parametrize(
    ("adds", "reason"),
    [
        ((entry("../outside/new"),), "“..”"),
        ((DIRECTORY, entry("d/../../outside/new")), "“..”"),
        ((entry("./f"),), "“.”"),
        ((entry("d//f"),), "empty part"),
        ((entry("/etc/f"),), "absolute"),
        ((entry("l", tarfile.SYMTYPE, link="../outside"), entry("l/new")), "no directory of its own"),
        ((entry("l", tarfile.SYMTYPE, link="../outside/file"), entry("l")), "twice"),
        ((DIRECTORY, entry("d/l", tarfile.SYMTYPE, link=".."), entry("d/l/f")), "no directory of its own"),
        ((entry("l", tarfile.SYMTYPE, link="../outside"), entry("h", tarfile.LNKTYPE, link="l/file")), "no directory"),
        ((entry("h", tarfile.LNKTYPE, link="../outside/file"),), "“..”"),
        ((entry("h", tarfile.LNKTYPE, link="/etc/passwd"),), "absolute"),
        ((entry("h", tarfile.LNKTYPE, link="missing"),), "leads nowhere"),
        ((DIRECTORY, entry("h", tarfile.LNKTYPE, link="d")), "something else than a file"),
        ((entry("c", tarfile.CHRTYPE),), "a device"),
        ((entry("b", tarfile.BLKTYPE),), "a device"),
        ((entry("p", tarfile.FIFOTYPE),), "a pipe"),
        ((entry("s", mode=0o4755),), "set-id"),
        ((entry("s", mode=0o2755),), "set-id"),
        ((entry("f"), entry("f")), "twice"),
        ((DIRECTORY, DIRECTORY), "twice"),
        ((entry("f"), entry("f/g")), "no directory of its own"),
        ((entry("missing/f"),), "no directory of its own"),
        ((entry("/".join("d" * 101)),), "deeper"),
        ((entry("n" * 256),), "too long"),
    ],
    ids=lambda value: value if isinstance(value, str) else "tar",
)
def test_what_is_not_a_plain_tree_of_its_own_is_refused(
    place: pathlib.Path, adds: tuple[Add, ...], reason: str
) -> None:
    before = sorted(place.rglob("*"))
    assert reason in hostile(place, *adds)
    assert [each for each in sorted(place.rglob("*")) if "target/" not in str(each)] == sorted([*before, place / "tar"])
    assert (place / "outside" / "file").read_text() == "outside"
    assert not any(found.lstat().st_mode & 0o6000 for found in (place / "target").rglob("*"))


def test_a_declared_size_of_a_terabyte_is_refused_at_once(place: pathlib.Path) -> None:
    info = tarfile.TarInfo("huge")
    info.size = 2**40
    (place / "tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    assert "GiB" in said(place)


def test_one_that_is_cut_anywhere_is_refused(place: pathlib.Path) -> None:
    assert hostile(place, DIRECTORY, entry("d/f", content=b"x" * 3000)) == ""
    whole = (place / "tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    for number, length in enumerate((0, 100, 512, 1000, 1024, 2000, end, 4608)):
        target = place / f"cut{number}"
        target.mkdir()
        os.chown(target, UID, UID)
        (place / "tar").write_bytes(whole[:length])
        answer = as_owner.unpack(str(place / "tar"), str(target))
        assert "refused" in answer, length


def test_damaged_headers_are_refused(place: pathlib.Path) -> None:
    hostile(place, entry("f"))
    whole = bytearray((place / "tar").read_bytes())
    whole[0] ^= 1
    (place / "tar").write_bytes(whole)
    assert "checksum" in said(place)
    with tarfile.open(place / "tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}) as tar:
        entry("f")(tar)
    assert "no GNU tar" in said(place)


def test_something_after_the_end_is_refused(place: pathlib.Path) -> None:
    (place / "tar").write_bytes(tars.END + b"more" * 128)
    assert "follows its end" in said(place)


def test_logins_in_a_tar_stay_out_under_whatever_name(place: pathlib.Path) -> None:
    adds = [entry(name, tarfile.DIRTYPE) for name in (".claude", ".config", ".config/gh")]
    adds += [entry(".claude/.credentials.json"), entry(".config/gh/hosts.yml"), entry(".claude/f")]
    adds += [entry("copy", tarfile.LNKTYPE, link=".claude/.credentials.json")]
    adds += [entry(".claude/.claude.json", content=b'{"theme": 1, "primaryApiKey": "k"}')]
    assert hostile(place, *adds) == ""
    found = sorted(str(each.relative_to(place / "target")) for each in (place / "target").rglob("*"))
    assert found == [".claude", ".claude/.claude.json", ".claude/f", ".config", ".config/gh"]
    assert b"primary" not in (place / "target" / ".claude" / ".claude.json").read_bytes()


# Hostile trees


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
