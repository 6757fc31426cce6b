"""What the page server refuses to start without."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("key", "starts"), [("", False), ("x" * 50, True)])
def test_the_page_server_needs_a_signing_key(tmp_path: pathlib.Path, key: str, *, starts: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import jackin_web.asgi"],
        cwd=ROOT,
        env={"JACKIN_SECRET_KEY": key, "JACKIN_DATABASE": str(tmp_path / "db"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode == 0) is starts, done.stderr
    assert starts or "SECRET_KEY" in done.stderr
