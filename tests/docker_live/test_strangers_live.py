"""What a Unix user of the machine who is no member of anything finds of the running service: nothing."""

from __future__ import annotations

import os
import pathlib
import pwd
import subprocess
from collections.abc import Iterator

import pytest

from agents.host import layout
from tests.support.handles import PYTHON
from tests.support.machine import unix_account
from tests.support.service import Service

PARTS = ("broker", "guard", "runner", "terminals", "daphne")
_LOOK = """
import os, sys
for path in sys.argv[1:]:
    try:
        if os.path.isdir(path):
            os.listdir(path)
        elif path.endswith(("root", "cwd", "exe")):
            os.readlink(path)
        else:
            open(path, "rb").read(1)
    except OSError as error:
        print(error.errno, path)
    else:
        print("seen", path)
"""


@pytest.fixture(scope="module")
def stranger() -> Iterator[pwd.struct_passwd]:
    with unix_account("jkt-eve") as entry:
        yield entry


def look(entry: pwd.struct_passwd | None, *paths: str) -> list[str]:
    """What looking at each path gives, for the account or for root."""
    ids = {} if entry is None else {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    line = [PYTHON, "-c", _LOOK, *paths]
    done = subprocess.run(line, capture_output=True, text=True, check=True, **ids)  # type: ignore[call-overload]
    return list(done.stdout.splitlines())


def test_no_directory_of_ours_can_be_listed_and_no_file_read(service: Service, stranger: pwd.struct_passwd) -> None:
    instance = service.instance
    places = [str(line.path) for line in layout.table(instance)]
    files = [instance.links_file, instance.keys / "secret-key", instance.database, instance.host_dir / "settings.json"]
    wanted = [*places, *(str(file) for file in files if file.exists())]
    assert {str(instance.links_file), str(instance.database)} <= set(wanted)
    assert look(None, *wanted) == [f"seen {path}" for path in wanted]
    assert look(stranger, *wanted) == [f"13 {path}" for path in wanted]


@pytest.mark.parametrize("part", PARTS)
def test_no_process_of_ours_shows_anything(service: Service, stranger: pwd.struct_passwd, part: str) -> None:
    pid = service.child(part)
    names = ("root", "cwd", "exe", "fd", "environ", "mem", "maps", "auxv", "syscall", "stack")
    found = look(stranger, *(f"/proc/{pid}/{name}" for name in names))
    assert {line.partition(" ")[0] for line in found} <= {"13", "1"}, found
    assert look(None, f"/proc/{pid}/cwd") == [f"seen /proc/{pid}/cwd"]
    assert pathlib.Path(f"/proc/{pid}").is_dir()
    assert os.stat(f"/proc/{pid}/environ").st_uid != stranger.pw_uid
