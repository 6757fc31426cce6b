"""Paths that change while they are staged: what is mounted is what was looked at, and never anything else."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import os
import pathlib
import pwd
import secrets
import subprocess
import time
from collections.abc import Iterator

import pytest

from agents.engine.errors import BrokerRefused
from agents.engine.types import MountProblem, StagedMount
from tests.docker_live.broker_fixtures import ann, ben, folder, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit, request, running
from tests.support.swapping import naive_is_fooled, swapping

SWAPS = 1000
STAGINGS = 25
SECONDS = 60


@pytest.fixture
def secret() -> Iterator[pathlib.Path]:
    """A directory of root's, that ann can name but not enter, in one that she can."""
    with folder(pathlib.Path("/srv/jkt-place")) as place:
        made = make(place / "w", None, 0o700)
        (made / "name").write_text("secret\n")
        yield made


@pytest.fixture
def intended(ann: pwd.struct_passwd, home: pathlib.Path) -> pathlib.Path:
    """The directory that ann means: `a/w` in her home."""
    made = make(make(home / "a", ann) / "w", ann)
    (made / "name").write_text("intended\n")
    return made


def staged(kit: Kit, path: pathlib.Path) -> StagedMount | None:
    """What is staged for `path` now, looked at and released; None for a refusal."""
    launch = secrets.token_hex(16)
    try:
        (mount,) = kit.client.stage("ann", launch, [request(path, "/w")]).mounts
    except BrokerRefused:
        return None
    try:
        status = os.stat(mount.staged)
        assert (status.st_dev, status.st_ino) == (mount.device, mount.inode)
        return mount
    finally:
        kit.client.release(launch)


@pytest.mark.parametrize("what", ["the last name is a link", "a name above is a link", "something is mounted there"])
def test_a_path_swapped_a_thousand_times_never_mounts_another_directory(
    kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path, intended: pathlib.Path, secret: pathlib.Path, what: str
) -> None:
    one, other, how, by = {
        "the last name is a link": (intended, home / "evil", "exchange", ann),
        "a name above is a link": (intended.parent, home / "evil", "exchange", ann),
        "something is mounted there": (intended, secret, "bind", None),
    }[what]
    if how == "exchange":
        (home / "evil").symlink_to(secret if one == intended else secret.parent)
    own, inodes, refused = intended.stat().st_ino, [], 0
    with swapping(one, other, how=how, by=by) as swaps:
        began = time.monotonic()
        while len(inodes) < STAGINGS or time.monotonic() - began < 3:
            assert time.monotonic() - began < SECONDS
            mount = staged(kit, intended)
            refused += mount is None
            inodes += [] if mount is None else [mount.inode]
        assert naive_is_fooled(intended, secret, ann)  # who goes by the path twice gets the secret
    assert swaps.count >= SWAPS
    assert set(inodes) == {own}
    assert refused
    assert secret.stat().st_ino != own


def test_directories_swapped_with_each_other_are_mounted_as_they_were_looked_at(
    kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path, intended: pathlib.Path
) -> None:
    other = make(home / "other", ann)
    both = {intended.stat().st_ino, other.stat().st_ino}
    with swapping(intended, other, how="exchange", by=ann) as swaps:
        began = time.monotonic()
        inodes = set()
        while inodes != both or time.monotonic() - began < 1:
            assert time.monotonic() - began < SECONDS
            if (mount := staged(kit, intended)) is not None:
                inodes.add(mount.inode)
    assert swaps.count >= SWAPS


def test_agents_launched_while_their_source_is_swapped_see_the_directory_that_was_meant(
    kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path, intended: pathlib.Path, secret: pathlib.Path
) -> None:
    (home / "evil").symlink_to(secret)
    seen: list[str] = []
    began = time.monotonic()
    with swapping(intended, home / "evil", how="exchange", by=ann) as swaps:
        while len(seen) < 3:
            assert time.monotonic() - began < SECONDS
            try:
                with running(kit, "ann", request(intended, "/w")) as made:
                    seen.append(made.execute("cat /w/name").stdout)
            except BrokerRefused:
                continue
    assert seen == ["intended\n"] * 3
    assert swaps.count >= SWAPS


def test_hard_links_to_other_peoples_files_open_nothing(
    kit: Kit, ann: pwd.struct_passwd, ben: pwd.struct_passwd, home: pathlib.Path
) -> None:
    with folder(pathlib.Path("/srv/jkt-place"), None, 0o700) as place:
        for name, owner in (("of-root", 0), ("of-ben", ben.pw_uid)):
            (place / name).write_text("hush\n")
            os.chown(place / name, owner, owner)
            (place / name).chmod(0o600)
            os.link(place / name, home / name)  # as ann can where the kernel does not protect hard links
        with running(kit, "ann", request(home, "/w")) as made:
            for name in ("of-root", "of-ben"):
                for user in ("0:0", "1000:1000"):
                    for command in ("cat", "truncate -s0", "chmod 777", "chown 1000"):
                        done = made.execute(f"{command} /w/{name}", user=user)
                        assert (done.returncode != 0, "hush" in done.stdout) == (True, False), (command, name, user)
        assert (place / "of-ben").read_text() == "hush\n"


def test_magic_links_are_no_sources(kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path) -> None:
    held = os.open(home, os.O_PATH)
    own = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sleep", "600"],
        cwd=home, user=ann.pw_uid, group=ann.pw_gid, extra_groups=[],
    )  # fmt: skip
    try:
        for number, target in enumerate(
            (
                f"/proc/self/root{home}",
                f"/proc/{own.pid}/root{home}",
                f"/proc/{own.pid}/cwd",
                f"/proc/{os.getpid()}/fd/{held}",
                "/proc/self/cwd",
                "/proc/thread-self/root",
            )
        ):
            (home / f"magic{number}").symlink_to(target)
            for path in (home / f"magic{number}", home / f"magic{number}" / "below"):
                (found,) = kit.client.check("ann", [request(path, "/w")])
                assert isinstance(found, MountProblem)
                assert found.code in {"not-a-directory", "not-readable"}, (target, found)
                assert staged(kit, path) is None
            (direct,) = kit.client.check("ann", [request(target, "/w")])
            assert isinstance(direct, MountProblem)
            assert direct.code == "refused-source"
    finally:
        os.close(held)
        own.kill()
        own.wait()
