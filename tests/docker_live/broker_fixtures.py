"""Fixtures of the broker's live tests: one broker, and two Unix accounts with their web users."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
from collections.abc import Iterator

import pytest

from tests.docker_live.broker_kit import Kit, running_broker
from tests.support.machine import run, unix_account


@pytest.fixture(scope="module")
def kit(engine_socket: str) -> Iterator[Kit]:
    with running_broker(engine_socket) as found:
        try:
            yield found
        finally:
            print(found.log.read_text())


@pytest.fixture(scope="module")
def system_group() -> Iterator[str]:
    """A group with a low gid, which agents never get."""
    run("groupadd", "--force", "--system", "jkt-system")
    try:
        yield "jkt-system"
    finally:
        run("groupdel", "jkt-system", check=False)


@pytest.fixture(scope="module")
def ann(kit: Kit, system_group: str) -> Iterator[pwd.struct_passwd]:
    """The owner, linked to the web user `ann`; in a project group, and in a system group."""
    with unix_account("jkt-ann", groups=("jkt-team",)) as entry:
        run("usermod", "--append", "--groups", system_group, "jkt-ann")
        kit.client.link("ann", "jkt-ann")
        yield entry
        kit.client.unlink("ann")


@pytest.fixture(scope="module")
def ben(kit: Kit) -> Iterator[pwd.struct_passwd]:
    """A colleague, linked to the web user `ben`."""
    with unix_account("jkt-ben") as entry:
        kit.client.link("ben", "jkt-ben")
        yield entry
        kit.client.unlink("ben")


@pytest.fixture
def home(ann: pwd.struct_passwd) -> Iterator[pathlib.Path]:
    """An empty directory in ann's home, removed afterwards."""
    with folder(pathlib.Path(ann.pw_dir) / "work", ann) as made:
        yield made


@contextlib.contextmanager
def folder(path: pathlib.Path, owner: pwd.struct_passwd | None = None, mode: int = 0o755) -> Iterator[pathlib.Path]:
    """A directory of `owner` (or root) with exactly that mode, removed with all in it."""
    make(path, owner, mode)
    try:
        yield path
    finally:
        run("rm", "-rf", "--one-file-system", str(path))


def make(path: pathlib.Path, owner: pwd.struct_passwd | None = None, mode: int = 0o755) -> pathlib.Path:
    """A directory of `owner` (or root) with exactly that mode."""
    path.mkdir()
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner.pw_uid, owner.pw_gid)
        path.chmod(mode)
    return path


@contextlib.contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    """`mount ARGUMENTS`, of which the last is the place, and unmounted again."""
    run("mount", *arguments)
    try:
        yield
    finally:
        run("umount", "--lazy", arguments[-1])
