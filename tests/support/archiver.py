"""An archiver of the test's own: the real process, as its own account, on a directory of the test."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator

from agents.engine.archive_client import ArchiveClient
from agents.host import users
from agents.host.instance import USER_ARCH
from agents.host.shell import as_user

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


class Archiver:
    """The process, its directory and a client. It can be killed and started again on the same socket."""

    def __init__(self, place: pathlib.Path) -> None:
        self.data = place
        self.snapshots = place / "snapshots"
        path = str(place / "archiver.sock")
        self.client = ArchiveClient(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        number = str(self._listener.fileno())
        env = {"PATH": os.environ["PATH"], "JACKIN_FD_ARCHIVER": number, "JACKIN_DATA": str(self.data)}
        env |= {"PYTHONDONTWRITEBYTECODE": "1"}
        argv = as_user(USER_ARCH, [sys.executable, "-P", "-m", "agents.archiver"], umask=0o077)
        with (self.data / "archiver.log").open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                cwd="/",
                env=env | {"PYTHONPATH": str(REPOSITORY)},
                pass_fds=[self._listener.fileno()],
                stderr=log,
            )
        self.client.all_keys()  # answered as soon as it serves

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def close(self) -> None:
        self.kill()
        self._listener.close()

    def files(self) -> list[str]:
        """Everything below its directory."""
        found: list[str] = []
        for place, folders, files in os.walk(self.snapshots):  # what goes meanwhile is gone, and no error
            found += [str(pathlib.Path(place, name).relative_to(self.snapshots)) for name in (*folders, *files)]
        return sorted(found)


@contextlib.contextmanager
def archiver(place: pathlib.Path) -> Iterator[Archiver]:
    """One with an empty directory of its own below `place`, which its account has to be able to enter."""
    users.ensure_users()
    entry = pwd.getpwnam(USER_ARCH)
    made = Archiver(place)
    made.snapshots.mkdir(mode=0o700)
    os.chown(made.snapshots, entry.pw_uid, entry.pw_gid)
    made.start()
    try:
        yield made
    finally:
        made.close()
        print((place / "archiver.log").read_text())
