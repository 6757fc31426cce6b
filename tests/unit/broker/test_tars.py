"""Hostile tars, unpacked by a real account without rights."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import os
import pathlib
import stat
import tarfile

import pytest

from agents.broker import tars
from tests.support import as_owner
from tests.support.as_owner import UID
from tests.unit.broker.tar_kit import Add, entry, hostile, names, owned, packed, place, said  # noqa: F401


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
