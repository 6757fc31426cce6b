"""Runs the management commands of the application as the accounts that own its files; knows no Django itself."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from agents.host.instance import USER_RUN, USER_WEB
from agents.host.logs import ChildLog
from agents.host.settings import Settings, child_env
from agents.host.shell import HostError, as_user, run, say, visible

NOTE = "prepared"
PROGRESS = re.compile(r"Building |Step \d+/\d+")
WIDTH = 100
UMASK = 0o007  # the database is shared by its group


class Django:
    """`manage.py` of one release."""

    def __init__(self, settings: Settings, release: Path) -> None:
        self.settings = settings
        self.release = release

    def argv(self, *words: str, user: str = USER_RUN) -> list[str]:
        """The command line that runs `manage.py words…` as `user`."""
        return as_user(
            user, [f"{self.release}/venv/bin/python", "-P", f"{self.release}/manage.py", *words], umask=UMASK
        )

    def manage(self, *words: str, user: str = USER_RUN, text: str | None = None, timeout: float = 300) -> str:
        """Run one command to its end; returns what it printed. Raises HostError with its last words."""
        return run(self.argv(*words, user=user), env=self.env(), text=text, cwd=self.release, timeout=timeout)

    def follow(self, *words: str, user: str = USER_RUN) -> None:
        """Run one long command: all its lines go to its log, those that mark progress are shown. Raises HostError."""
        log = ChildLog(self.settings.instance.logs / f"{words[0]}.log")
        try:
            with subprocess.Popen(
                self.argv(*words, user=user), env=self.env(), cwd=self.release, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
            ) as process:  # fmt: skip
                for line in process.stdout or ():
                    log.feed(line.encode())
                    if PROGRESS.match(line):
                        say(f"  {words[0]}: {visible(line.rstrip())[:WIDTH]}")
        finally:
            log.close()
        if process.returncode:
            lines = "\n".join(f"  {line}" for line in log.last)
            raise HostError(f"manage.py {words[0]} ended with {process.returncode}:\n{lines}")

    def prepare(self) -> bool:
        """The database for this release; returns whether anything had to be done."""
        instance = self.settings.instance
        note = instance.host_dir / NOTE
        if _read(note) == self._stamp() and _inode(instance.database):
            return False
        # SQLite makes its files 0644; made beforehand like this, they and their journals are the group's too.
        create = "import os,sys; os.close(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o660))"
        python = ["/usr/bin/python3", "-I", "-c", create, str(instance.database)]
        run(as_user(USER_WEB, python, umask=UMASK))
        self.manage("migrate", "--no-input", "-v", "0", user=USER_WEB)
        # Where releases before kept the static files. As their owner: root follows nothing in a place of another's.
        if os.path.lexists(old := instance.web / "static"):
            run(as_user(USER_WEB, ["rm", "-rf", "--one-file-system", "--", str(old)]))
        note.write_text(self._stamp())
        return True

    def env(self) -> dict[str, str]:
        """What its commands find in their environment."""
        return {**child_env(self.settings, secret=True), "PYTHONPATH": str(self.release)}

    def _stamp(self) -> str:
        return f"{self.release.name} {_inode(self.settings.instance.database)}"


def _inode(path: Path) -> int:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
