"""`./scripts/serve` itself on an instance that never starts: laxer modes and strange databases end it, by name."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from agents.host import layout, packages, release, users
from agents.host.instance import USER_WEB, Instance
from agents.host.layout import Directory
from agents.host.own_engine import OwnEngine
from tests.support.service import ROOT, wait_for

HERE = Instance(name="jktmode", port=1)  # a port that is never asked for: it is refused before
TABLE = (*layout.table(HERE), *layout.code_table(HERE)[1:])  # the first of these is every instance's


@pytest.fixture(scope="module")
def installed(turn: None) -> Iterator[pathlib.Path]:
    """A root-owned release and all directories as they must be; nothing runs."""
    packages.ensure()
    users.ensure_users()
    try:
        place = release.install(ROOT, HERE)
        layout.ensure(layout.table(HERE))
        yield place
    finally:
        OwnEngine(HERE).stop()  # should it have started after all
        for directory in (HERE.data, HERE.code, HERE.logs):
            shutil.rmtree(directory, ignore_errors=True)


def refusal(tree: pathlib.Path) -> str:
    """What serve says when it refuses to start."""
    env = {"PATH": os.environ["PATH"], "JACKIN_INSTANCE": HERE.name, "JACKIN_PORT": str(HERE.port)}
    command = [str(tree / "scripts" / "serve")]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for("serve to refuse", lambda: process.poll() is not None or HERE.lock_file.exists())
        if process.poll() is None:  # it starts: down again in good order, before there is anything to leave behind
            process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=100)
    assert process.returncode == 1, said
    begun = HERE.lock_file.exists()
    HERE.lock_file.unlink(missing_ok=True)
    assert not begun, said
    return said


@pytest.mark.parametrize("line", TABLE, ids=lambda line: str(line.path))
def test_a_laxer_mode_or_another_owner_is_refused_by_name(installed: pathlib.Path, line: Directory) -> None:
    before = line.path.stat()
    # From a tree that others can write it first goes to the root-owned copy, and looks at the places of the code.
    tree = ROOT if HERE.code in (line.path, *line.path.parents) else installed
    try:
        line.path.chmod(line.mode | 0o022)
        said = refusal(tree)
        assert str(line.path) in said
        assert f"chmod {line.mode:04o} {line.path}" in said or f"chmod go-w {line.path}" in said
        line.path.chmod(line.mode)
        os.chown(line.path, pwd.getpwnam("daemon").pw_uid, -1)
        line.path.chmod(line.mode)
        said = refusal(tree)
        assert str(line.path) in said
        assert f"chown {line.owner}:{line.group} {line.path}" in said
    finally:
        os.chown(line.path, before.st_uid, before.st_gid)
        line.path.chmod(line.mode)


def test_one_bit_more_is_enough(installed: pathlib.Path) -> None:
    HERE.keys.chmod(0o710)
    try:
        assert f"{HERE.keys} belongs to 0:0 with mode 0710; it must be root:root 0700." in refusal(installed)
    finally:
        HERE.keys.chmod(0o700)


def test_a_directory_behind_a_link_is_refused(installed: pathlib.Path) -> None:
    aside = HERE.states.with_name("aside")
    HERE.states.rename(aside)
    HERE.states.symlink_to(aside)
    try:
        assert f"{HERE.states} must be a directory, it is a symbolic link" in refusal(installed)
    finally:
        HERE.states.unlink()
        aside.rename(HERE.states)


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
@pytest.mark.parametrize("kind", ["link", "pipe", "foreign"])
def test_a_strange_database_is_refused(installed: pathlib.Path, kind: str, suffix: str) -> None:
    place = pathlib.Path(f"{HERE.database}{suffix}")
    target = HERE.web / "elsewhere"
    if kind == "link":
        place.symlink_to(target)
        os.chown(place, pwd.getpwnam(USER_WEB).pw_uid, -1, follow_symlinks=False)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.touch()
        os.chown(place, pwd.getpwnam("daemon").pw_uid, -1)
    try:
        said = refusal(installed)
        assert f"The database is not used: {place} " in said
        assert f"move it out of {HERE.web}" in said
        assert not target.exists()
    finally:
        place.unlink()
