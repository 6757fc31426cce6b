"""A state goes through the real broker, as its owner, into the real archiver and back."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import os
import pathlib
import pwd
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator

import pytest

from agents.broker import wire
from agents.broker.protocol import request
from agents.engine.errors import ArchiveUnreachable, BrokerRefused, Cancelled
from tests.docker_live.broker_fixtures import ann, ben, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit
from tests.support.archiver import Archiver, archiver
from tests.support.machine import run

pytestmark = pytest.mark.live

CONFIGURATION = b'{"theme": "dark", "oauthAccount": {"accountUuid": "u"}, "primaryApiKey": "sk-1"}'


@pytest.fixture(scope="module")
def kept() -> Iterator[Archiver]:
    with tempfile.TemporaryDirectory(prefix="jkt-arch-", dir="/var/lib") as name:
        pathlib.Path(name).chmod(0o711)
        with archiver(pathlib.Path(name)) as found:
            yield found


@pytest.fixture
def key() -> str:
    return secrets.token_hex(16)


@pytest.fixture
def state(kit: Kit, ann: pwd.struct_passwd, key: str) -> Iterator[pathlib.Path]:
    """A state of ann's with logins, links and files of every kind in it."""
    top = kit.instance.states / str(ann.pw_uid)
    top.mkdir(mode=0o700, exist_ok=True)
    place = top / key
    place.mkdir(mode=0o700)
    (place / ".claude").mkdir()
    (place / ".claude" / ".credentials.json").write_text("token")
    (place / ".claude" / ".claude.json").write_bytes(CONFIGURATION)
    (place / ".config" / "gh").mkdir(parents=True)
    (place / ".config" / "gh" / "hosts.yml").write_text("oauth_token: gho_1")
    (place / "history.txt").write_text("what was said")
    (place / "again.txt").hardlink_to(place / "history.txt")
    (place / "elsewhere").symlink_to("/etc/passwd")
    (place / "closed").mkdir()
    (place / "closed" / "read-only").write_bytes(secrets.token_bytes(300_000))
    (place / "closed" / "read-only").chmod(0o400)
    (place / "closed").chmod(0o500)
    (pathlib.Path(os.fsdecode(os.fsencode(place) + b"/odd\xff"))).write_text("odd")
    os.mkfifo(place / "pipe")
    run("chown", "-Rh", f"{ann.pw_uid}:{ann.pw_gid}", str(place))
    yield place
    run("rm", "-rf", "--one-file-system", str(place))


def snapshot(kit: Kit, kept: Archiver, state: pathlib.Path, *, with_logins: bool = False) -> tuple[str, dict[str, int]]:
    key = secrets.token_hex(16)
    with kept.client.draft(key, progress=lambda done: None, cancelled=lambda: False) as draft:
        packed = draft.fill(lambda fd: kit.client.archive("ann", state.name, with_logins=with_logins, stream=fd))
        draft.keep({"entries": packed.entries, "bytes": packed.bytes})
    return key, vars(packed)


def put_back(kit: Kit, kept: Archiver, key: str, target: str, *, with_logins: bool = False) -> None:
    kept.client.give(
        key,
        lambda fd: kit.client.restore("ann", target, with_logins=with_logins, stream=fd),
        progress=lambda done: None,
        cancelled=lambda: False,
    )


def seen(place: pathlib.Path) -> dict[bytes, object]:
    """Everything below a directory but times: kind, mode, owner, content."""
    found: dict[bytes, object] = {}
    for folder, folders, files in os.walk(os.fsencode(place)):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            content = os.readlink(path) if stat.S_ISLNK(status.st_mode) else b""
            if stat.S_ISREG(status.st_mode):
                content = pathlib.Path(os.fsdecode(path)).read_bytes()
            found[os.path.relpath(path, os.fsencode(place))] = (oct(status.st_mode), status.st_uid, content)
    return found


def test_a_state_comes_back_as_it_was_but_for_its_logins(kit: Kit, kept: Archiver, state: pathlib.Path) -> None:
    before = seen(state)
    key, packed = snapshot(kit, kept, state)
    assert packed["skipped"] == 1, "the pipe"
    assert packed["logins_left_out"] == 3
    other = secrets.token_hex(16)
    put_back(kit, kept, key, other)
    after = seen(state.with_name(other))
    assert os.stat(state.with_name(other)).st_uid == state.stat().st_uid
    assert os.stat(state.with_name(other) / "again.txt").st_nlink == 2
    assert (state.with_name(other) / ".claude" / ".claude.json").read_bytes() == b'{\n  "theme": "dark"\n}'
    for name in (b".claude/.credentials.json", b".config/gh/hosts.yml", b"pipe", b".claude/.claude.json"):
        before.pop(name)
    after.pop(b".claude/.claude.json")
    assert after == before


def test_logins_that_were_kept_come_back_only_where_that_is_asked_for(
    kit: Kit, kept: Archiver, state: pathlib.Path
) -> None:
    key, packed = snapshot(kit, kept, state, with_logins=True)
    assert packed["logins_left_out"] == 0
    (state / "history.txt").write_text("something else")
    put_back(kit, kept, key, state.name, with_logins=True)
    assert (state / "history.txt").read_text() == "what was said"
    assert (state / ".claude" / ".credentials.json").read_text() == "token"
    other = secrets.token_hex(16)
    put_back(kit, kept, key, other)
    assert not (state.with_name(other) / ".claude" / ".credentials.json").exists()
    assert not (state.with_name(other) / ".config" / "gh" / "hosts.yml").exists()
    assert b"oauth" not in (state.with_name(other) / ".claude" / ".claude.json").read_bytes()
    assert list(kit.instance.trash.iterdir()) == []
    assert not [name for name in os.listdir(state.parent) if name.startswith(".")]


def test_a_state_of_somebody_else_is_not_there(kit: Kit, ben: pwd.struct_passwd, state: pathlib.Path) -> None:
    reader, writer = os.pipe()
    with pytest.raises(BrokerRefused) as refused:
        kit.client.archive("ben", state.name, with_logins=True, stream=writer)
    assert refused.value.code == "state-account"
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_file_that_its_owner_cannot_read_ends_it_by_name(kit: Kit, kept: Archiver, state: pathlib.Path) -> None:
    (state / "history.txt").chmod(0)
    with pytest.raises(BrokerRefused, match=r"again\.txt|history\.txt"):
        snapshot(kit, kept, state)
    assert not [name for name in kept.files() if name.startswith(".")]


def test_a_descriptor_comes_with_a_stream_only_and_it_is_one_end_of_a_pipe(kit: Kit, state: pathlib.Path) -> None:
    path = kit.instance.broker_socket
    reader, writer = os.pipe()
    carry = request("archive", web_user="ann", state=state.name, with_logins=False)
    with tempfile.TemporaryFile() as file, socket.socket() as sock:
        for descriptors in ([], [writer, writer], [reader], [file.fileno()], [sock.fileno()]):
            try:
                reply = wire.call(path, carry, timeout=5, descriptors=descriptors)
            except OSError:
                continue  # closed at once
            assert reply["code"] == "bad-request", descriptors
        assert wire.call(path, request("staged"), timeout=5, descriptors=[writer])["code"] == "bad-request"
    os.close(writer)
    assert os.read(reader, 1) == b"", "the broker holds none of them"
    os.close(reader)
    assert wire.call(path, request("staged"), timeout=5)["ok"]


def test_cancelling_ends_both_sides_and_leaves_nothing(kit: Kit, kept: Archiver, state: pathlib.Path) -> None:
    before = kept.files()
    with (
        pytest.raises(Cancelled),
        kept.client.draft(secrets.token_hex(16), progress=lambda done: None, cancelled=lambda: True) as draft,
    ):
        draft.fill(lambda fd: kit.client.archive("ann", state.name, with_logins=True, stream=fd))
    _settled(kept, before)


def test_an_archiver_that_is_killed_half_way_leaves_nothing_and_that_is_said(
    kit: Kit, kept: Archiver, state: pathlib.Path
) -> None:
    with (state / "large").open("wb") as file:
        for _ in range(64):
            file.write(secrets.token_bytes(1024**2))
    run("chown", f"{state.stat().st_uid}", str(state / "large"))
    before = kept.files()

    def kill(done: int) -> None:
        if kept.pid:
            kept.kill()

    with (
        pytest.raises(ArchiveUnreachable, match="archiver"),
        kept.client.draft(secrets.token_hex(16), progress=kill, cancelled=lambda: False) as draft,
    ):
        draft.fill(lambda fd: kit.client.archive("ann", state.name, with_logins=True, stream=fd))
    assert kept.files() != before, "the draft of the killed one"
    kept.start()
    assert kept.files() == before
    assert snapshot(kit, kept, state)[0] in kept.client.all_keys()


def _settled(kept: Archiver, files: list[str]) -> None:
    from tests.docker_live.broker_kit import wait_for

    wait_for(lambda: kept.files() == files)
