"""Programs of other accounts have no way to the terminal that root started the service on."""

from __future__ import annotations

import getpass
import os
import pty
import sys

import pytest

from agents.host import shell

# Whether it could be typed into root's shell: only from within the session of the terminal can /dev/tty be opened.
PROBE = "import sys\ntry:\n open('/dev/tty')\n print('open')\nexcept OSError:\n print('shut')"
AS_ROOT = f"from agents.host import shell; print(shell.run([{sys.executable!r}, '-c', {PROBE!r}]).strip())"
DROPPED = (
    "from agents.host import shell; "
    f"print(shell.run([shell.SETPRIV, '--no-new-privs', {sys.executable!r}, '-c', {PROBE!r}]).strip())"
)


def on_a_terminal(program: str) -> str:
    """What `program` prints in a session of its own whose terminal is a new one."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", program])
    output = b""
    try:
        while piece := os.read(terminal, 1024):
            output += piece
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return output.decode().strip()


def test_a_program_that_gave_up_root_cannot_open_the_terminal() -> None:
    assert on_a_terminal(AS_ROOT) == "open", "the probe works"
    assert on_a_terminal(DROPPED) == "shut"


@pytest.mark.parametrize("umask", [None, 0o077])
def test_every_program_of_another_account_is_known_as_one(umask: int | None) -> None:
    assert shell.drops_root(shell.as_user(getpass.getuser(), ["true"], umask=umask))
    assert not shell.drops_root(["apt-get", "install", "x"])
