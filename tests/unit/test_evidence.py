"""What a failing live test prints: enough to see what happened, and no secret."""

from __future__ import annotations

import json
import pathlib
from types import SimpleNamespace

import pytest

from agents.host.instance import Instance
from agents.host.own_engine import OwnEngine
from tests.docker_live.conftest import engines_of
from tests.support import evidence

SECRET = "sk-ant-0123456789abcdef"
INSPECT = [
    {
        "Name": "/jackin-alice-agent-smith",
        "State": {"Status": "exited", "ExitCode": 3, "Error": ""},
        "Args": ["--api-key=" + SECRET, "plain"],
        "Config": {"Env": ["PATH=/bin", "TOKEN=" + SECRET], "Labels": {"jackin.agent": "0" * 32}},
    }
]


def docker(folder: pathlib.Path, body: str) -> None:
    """A program `docker` that answers as the real one would."""
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\nshift 2\n{body}")
    program.chmod(0o755)


def test_status_logs_and_inspect_are_shown_without_secrets(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inspect.json").write_text(json.dumps(INSPECT))
    docker(
        tmp_path,
        f"case $1 in ps) echo abc ;; logs) echo last words; echo ANTHROPIC_API_KEY={SECRET} >&2 ;;"
        f" inspect) /bin/cat {tmp_path}/inspect.json ;; esac\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    said = evidence.of_containers("/run/engine.sock")
    assert "jackin-alice-agent-smith: exited, exit code 3" in said
    assert "last words" in said
    assert '"PATH=(hidden)"' in said
    assert '"plain"' in said
    assert SECRET not in said


def test_without_docker_it_says_so(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "docker" in evidence.of_containers("/run/engine.sock")


def test_the_engines_of_a_test_are_found_by_its_fixtures() -> None:
    own = OwnEngine(Instance(name="some", port=1))
    found = engines_of({"engine_socket": "/a.sock", "engine": own, "kit": SimpleNamespace(engine="/b.sock"), "x": 1})
    assert found == ["/a.sock", "/var/lib/jackin-web-some/run-root/docker.sock", "/b.sock"]
