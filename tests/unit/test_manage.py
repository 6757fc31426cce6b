"""`manage.py` for who is not root: what only root can do says so, everything else is Django's."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
AS_NOBODY = (
    "import os, sys, runpy; os.geteuid = lambda: 65534; sys.argv = sys.argv[1:]; "
    "runpy.run_path({!r}, run_name='__main__')"
)


def manage(*words: str, python: tuple[str, ...] = (sys.executable,)) -> subprocess.CompletedProcess[str]:
    program = AS_NOBODY.format(str(ROOT / "manage.py"))
    return subprocess.run(
        [*python, "-c", program, "manage.py", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("words", [["doctor", "--json"], ["host", "link", "alice", "alice"]])
def test_what_only_root_can_do(words: list[str]) -> None:
    done = manage(*words)
    assert done.returncode == 2
    assert f"needs root; try: sudo {ROOT}/manage.py {' '.join(words)}" in done.stderr


def test_without_django_it_needs_root() -> None:
    done = manage("unlock", "alice", python=("/usr/bin/python3", "-S"))
    assert (done.returncode, "needs root" in done.stderr) == (2, True)


def test_everything_else_is_djangos() -> None:
    assert "unlock" in manage("help").stdout
