"""Rules on the text of paths, the id mapping, mountinfo and the limits on accounts: nothing here needs root."""

from __future__ import annotations

import bisect
import itertools
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.broker import accounts, gate, idmap, mountinfo, protected, rules
from agents.broker.mountinfo import Place
from agents.broker.protected import Protected
from agents.broker.protocol import Mount, Refusal
from agents.engine import api
from agents.host.instance import REMAP_BASE, REMAP_COUNT

RESERVED = [
    *("/proc", "/sys/fs", "/dev", "/run", "/run/jackin/gate", "/etc", "/usr/local", "/bin", "/sbin", "/lib", "/lib64"),
    *("/boot", "/var/lib", "/tmp", "/root/x", "/home", "/home/claude", "/jackin", "/jackin/entrypoint"),
]
NAME = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=12)
PLAIN = st.lists(NAME, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))


def code_of(check: object, *arguments: object) -> str:
    with pytest.raises(Refusal) as caught:
        check(*arguments)  # type: ignore[operator]
    return caught.value.code


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", "not-absolute"),
        ("project", "not-absolute"),
        ("~/project", "not-absolute"),
        ("/home/alice/../bob", "dot-dot"),
        ("/home/./alice", "dot-dot"),
        ("/home/alice/..", "dot-dot"),
        ("/home/a\nb", "control-characters"),
        ("/home/a\0b", "control-characters"),
        ("/home/a\x1b[2J", "control-characters"),
        ("/home/a\u2028b", "control-characters"),
        ("/home/\ud800", "control-characters"),
        ("/" + "x" * 9_999, "too-long"),
        ("x" * 10_000, "too-long"),
        ("/home/" + "ä" * 128, "too-long"),
        ("/a" * 2048, "too-long"),
        ("/", "refused-source"),
        ("//", "refused-source"),
        ("/etc", "refused-source"),
        ("/etc/ssh/", "refused-source"),
        ("//etc//ssh", "refused-source"),
        ("/run/user/1000", "refused-source"),
        ("/var/run/docker", "refused-source"),
        ("/proc/self/root", "refused-source"),
        ("/sys", "refused-source"),
        ("/dev/shm", "refused-source"),
        ("/boot/efi", "refused-source"),
        ("/tmp", "refused-source"),
        ("/var/tmp/", "refused-source"),
    ],
)
def test_refused_sources(path: str, code: str) -> None:
    assert code_of(rules.check_source_text, path) == code


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/home/alice/p", "/home/alice/p"),
        ("/home//alice/p/", "/home/alice/p"),
        ("/tmp/mine", "/tmp/mine"),
        ("/etcetera", "/etcetera"),
        ("/home/alice/...", "/home/alice/..."),
        ("/home/a b/ü", "/home/a b/ü"),
    ],
)
def test_good_sources(path: str, plain: str) -> None:
    assert rules.check_source_text(path) == plain


@pytest.mark.parametrize(
    "path", ["/workspace/x", "/home/claude/x", "/srv/x", "/mnt/x", "/data", "/opt/x", "/tmp/x", "/runner"]
)
def test_good_destinations(path: str) -> None:
    assert rules.check_destination(path) == path


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("workspace", "destination-bad"),
        ("/workspace/", "destination-bad"),
        ("/workspace//x", "destination-bad"),
        ("/workspace/../etc", "destination-bad"),
        ("/work\tspace", "destination-bad"),
        ("/" + "x" * 300, "destination-bad"),
        ("/", "destination-refused"),
        *((path, "destination-refused") for path in RESERVED),
        (api.GATE_DIR, "destination-refused"),
        (api.SECRETS_DIR, "destination-refused"),
    ],
)
def test_refused_destinations(path: str, code: str) -> None:
    assert code_of(rules.check_destination, path) == code


@given(st.text(max_size=60))
def test_any_destination_is_itself_or_refused(path: str) -> None:
    refused = rules.check_destinations([Mount(source="/", destination=path, mode="ro")])
    if refused:
        assert refused[0].code in {"destination-bad", "destination-refused"}
    else:
        assert rules.check_destination(path) == path == rules.plain(path)


@given(st.text(max_size=60))
def test_any_source_is_plain_or_refused(path: str) -> None:
    try:
        found = rules.check_source_text(path)
    except Refusal:
        return
    assert found.startswith("/")
    assert not {"", ".", ".."} & set(found.split("/")[1:])


@given(PLAIN)
def test_plain_paths_stay(path: str) -> None:
    assert rules.plain(path) == path == rules.plain(path.replace("/", "//") + "/")


def test_of_two_equal_destinations_the_later_is_refused() -> None:
    mounts = [Mount(source="/a", destination=where, mode="ro") for where in ("/w/a", "/w/b", "/w/a", "/etc")]
    refused = rules.check_destinations(mounts)
    assert {index: (each.code, each.index) for index, each in refused.items()} == {
        2: ("destination-twice", 2),
        3: ("destination-refused", 3),
    }


IDS = st.dictionaries(
    st.integers(1000, 2**32 - 2).filter(lambda n: not REMAP_BASE <= n < REMAP_BASE + REMAP_COUNT),
    st.integers(0, 65535),
    max_size=accounts.MOST_GROUPS + 1,
)


@given(IDS, st.lists(st.integers(0, 2**32 - 2), max_size=20))
def test_moved_ids_go_into_the_range_and_all_others_stay_out_of_it(moved: dict[int, int], others: list[int]) -> None:
    text = idmap.id_map(moved, base=REMAP_BASE, count=REMAP_COUNT)
    lines = sorted(tuple(int(number) for number in line.split()) for line in text.splitlines())
    assert len(lines) <= 340
    assert all(many > 0 for _, _, many in lines)
    ends = [(disk, disk + many) for disk, _, many in lines]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))

    def seen(disk: int) -> int | None:
        at = bisect.bisect_right([line[0] for line in lines], disk) - 1
        if at < 0 or disk >= lines[at][0] + lines[at][2]:
            return None
        return lines[at][1] + disk - lines[at][0]

    for disk, number in moved.items():
        assert seen(disk) == REMAP_BASE + number
    for disk in {*others, 0, 999, REMAP_BASE - 1, REMAP_BASE + REMAP_COUNT, 2**32 - 2} - set(moved):
        inside = REMAP_BASE <= disk < REMAP_BASE + REMAP_COUNT
        assert seen(disk) == (None if inside else disk)


def test_groups_are_numbered_from_2001() -> None:
    assert idmap.moved_gids(1005, [2000, 3000], 1000) == {1005: 1000, 2000: 2001, 3000: 2002}


MOUNTINFO = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:50 / /home/a\040b rw,nosuid shared:3 master:1 - fuse.sshfs host:/x\134y rw
31 27 254:0 /srv/real /srv/again ro,idmapped - ext4 /dev/vda rw
32 31 8:1 / /srv/again/sub rw - xfs /dev/sda1 rw
"""


def test_mountinfo() -> None:
    entries = mountinfo.parse(MOUNTINFO)
    assert entries[2].point == "/home/a b"
    assert entries[2].source == "host:/x\\y"
    assert entries[3].options == {"ro", "idmapped"}
    covering = mountinfo.covering(entries, "/home/a b/c")
    assert covering is not None
    assert covering.fstype == "fuse.sshfs"
    root = mountinfo.covering(entries, "/home/a")
    assert root is not None
    assert root.point == "/"
    assert mountinfo.below(entries, "/srv") == ["/srv/again", "/srv/again/sub"]
    assert mountinfo.below(entries, "/srv/again") == ["/srv/again/sub"]
    assert mountinfo.below(entries, "/srv/aga") == []
    assert mountinfo.place(entries[3], "/srv/again/x/y") == Place(device="254:0", path="/srv/real/x/y")
    assert mountinfo.place(entries[1], "/") == Place(device="254:0", path="/")


@pytest.mark.parametrize(
    ("path", "place", "inode", "refused"),
    [
        ("/var/lib/engine", "/var/lib/engine", 1, True),
        ("/var/lib/engine/below", "/var/lib/engine/below", 2, True),
        ("/srv/bound", "/var/lib/engine/below", 3, True),  # a bind mount of something inside
        ("/srv/bound", "/elsewhere", 7, True),  # the same inode
        ("/var", "/var", 4, True),
        ("/srv/bound", "/var/lib", 5, True),  # a bind mount of a parent
        ("/var/lib/engines", "/var/lib/engines", 6, False),
    ],
)
def test_protected_trees_are_found_by_name_by_inode_and_by_place(
    path: str, place: str, inode: int, refused: bool
) -> None:
    where = Place(device="254:0", path="/var/lib/engine")
    tree = Protected(path="/var/lib/engine", place=where, inode=(9, 7), reason="it is ours")
    reason = protected.conflict([tree], path=path, place=Place(device="254:0", path=place), inode=(9, inode))
    assert bool(reason) is refused


def test_the_lowest_uid_of_a_person() -> None:
    assert accounts.uid_min(["# UID_MIN 5", "UID_MIN\t\t 2000"]) == 2000
    assert accounts.uid_min(["UID_MIN 100"]) == 1000


def test_the_gate_is_where_the_engine_expects_it() -> None:
    assert (gate.GATE_DIR, gate.SECRETS_DIR) == (api.GATE_DIR, api.SECRETS_DIR)


def test_only_a_static_program_will_do_for_the_gate() -> None:
    assert not gate.is_static(pathlib.Path("/bin/sh").read_bytes())
    assert not gate.is_static(b"#!/bin/sh\n" + b" " * 100)
    assert not gate.is_static(b"")
    assert not gate.is_static(b"\x7fELF\x02\x01" + b"\xff" * 60)


@pytest.fixture
def engine_socket() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="jackin-") as place, socket.socket(socket.AF_UNIX) as bound:
        path = f"{os.path.realpath(place)}/docker.sock"
        bound.bind(path)
        yield path


def test_an_engines_socket_counts_for_root_and_for_its_owner_only(engine_socket: str) -> None:
    """What others bind, by the thousand, neither refuses somebody's directory nor takes their time."""
    entries, me = mountinfo.read(), os.getuid()
    assert engine_socket in set(protected._engine_sockets(entries, owners={me}))
    assert engine_socket not in set(protected._engine_sockets(entries, owners={me + 1}))


def test_a_socket_behind_a_link_is_not_followed(tmp_path: pathlib.Path, engine_socket: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(os.path.dirname(engine_socket))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{link}/podman.sock")
        found = set(protected._engine_sockets(mountinfo.read(), owners={os.getuid()}))
    assert f"{link}/podman.sock" not in found


@pytest.mark.parametrize("path", ["/", "/proc/self", "/dev/shm/x/y", "/home/alice", "/usr/bin/env"])
def test_the_quick_look_for_a_mount_agrees_with_the_thorough_one(path: str) -> None:
    entries = mountinfo.read()
    assert protected._top({entry.point: entry for entry in entries}, path) == mountinfo.covering(entries, path)


def test_an_engines_data_is_known_from_its_command_line_and_its_settings_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "dockerd.json"
    settings.write_text('{"data-root": "/srv/second"}')
    lines = [["dockerd", "--data-root", "/srv/first"], ["dockerd", f"--config-file={settings}", ""]]
    monkeypatch.setattr(protected, "_engines", lambda uid: enumerate(lines))
    assert {"/srv/first", "/srv/second"} <= set(protected._engines_data(0))
    assert set(protected._engines_data(1000)) == {"/srv/first"}, "no file that a user named is opened"
