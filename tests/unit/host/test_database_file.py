"""Only a plain file of the right accounts is ever opened as the database, by `serve` and by Django."""

from __future__ import annotations

import os
import pathlib
import socket
from collections.abc import Callable

import pytest
from django.db.utils import OperationalError

from agents.host import database_file, layout
from agents.host.instance import Instance
from agents.host.shell import HostError
from jackin_web.database.base import DatabaseWrapper

ME = frozenset({os.geteuid()})


def link(place: pathlib.Path) -> None:
    place.symlink_to(place.parent / "elsewhere")


def pipe(place: pathlib.Path) -> None:
    os.mkfifo(place)


def directory(place: pathlib.Path) -> None:
    place.mkdir()


def unix_socket(place: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place))


@pytest.mark.parametrize("suffix", database_file.SIDE_FILES)
@pytest.mark.parametrize(
    ("put", "said"),
    [(link, "a symbolic link"), (pipe, "a pipe"), (directory, "a directory"), (unix_socket, "a socket")],
)
def test_what_is_no_plain_file_is_refused_by_name(
    tmp_path: pathlib.Path, suffix: str, put: Callable[[pathlib.Path], None], said: str
) -> None:
    database = tmp_path / "db.sqlite3"
    database.touch()
    place = tmp_path / f"db.sqlite3{suffix}"
    place.unlink(missing_ok=True)
    put(place)
    assert database_file.problem(database, allowed=ME) == f"{place} is {said}, not a plain file"


def test_files_that_are_missing_or_plain_are_fine_and_foreign_ones_are_not(tmp_path: pathlib.Path) -> None:
    database = tmp_path / "db.sqlite3"
    assert database_file.problem(database, allowed=ME) == ""
    database.touch()
    assert database_file.problem(database, allowed=ME) == ""
    assert "belongs to uid" in database_file.problem(database, allowed={65533})


def test_serve_says_what_lies_there_and_what_to_do(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Instance, "database", property(lambda _: tmp_path / "db.sqlite3"))
    layout.check_database(Instance(name="nowhere"))
    link(tmp_path / "db.sqlite3")
    with pytest.raises(HostError, match="is a symbolic link") as caught:
        layout.check_database(Instance(name="nowhere"))
    assert "move it out of" in caught.value.remedy


@pytest.mark.parametrize("put", [link, pipe])
def test_django_opens_neither_a_link_nor_a_pipe(
    tmp_path: pathlib.Path, put: Callable[[pathlib.Path], None], django_db_blocker: object
) -> None:
    from django.db import connection

    database = tmp_path / "db.sqlite3"
    put(database)
    settings = dict(connection.settings_dict) | {"NAME": str(database)}
    wrapper = DatabaseWrapper(settings, alias="hostile")
    with pytest.raises(OperationalError, match="is not opened"):
        wrapper.get_new_connection(wrapper.get_connection_params())
    assert not (tmp_path / "elsewhere").exists()
    database.unlink()
    wrapper.get_new_connection(wrapper.get_connection_params()).close()  # right again: it goes on
    assert database.is_file()
