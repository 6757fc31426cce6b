"""What the processes of the service get from what `serve` was given."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest

from agents.engine.types import LABEL_CONTENT
from agents.host import base_image, settings
from agents.host.engine_api import EngineAnswer
from agents.host.instance import Instance
from agents.host.settings import Settings
from agents.host.shell import HostError

ROOT = Path(__file__).resolve().parents[3]
HERE = Settings(instance=Instance(name="some", port=8123))
NEVER_SET = {
    "JACKIN_DEBUG",
    "JACKIN_TLS",
    "JACKIN_STATIC",
}  # for development; comes with TLS; where files are collected


def test_every_setting_reaches_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    read = set(re.findall(r'env\.\w+\(\s*"(JACKIN_\w+)"', (ROOT / "jackin_web" / "settings.py").read_text()))
    for name in read:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(settings, "secret_key", lambda instance: "key")
    given = settings.child_env(HERE, secret=True)
    assert read - NEVER_SET - set(given) == set()


def test_nothing_else_of_the_callers_environment_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("JACKIN_SECRET_KEY", "x")
    given = settings.child_env(HERE, secret=False)
    assert not {"AWS_SECRET_ACCESS_KEY", "JACKIN_SECRET_KEY"} & set(given)


def test_the_note_gives_back_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Instance, "host_dir", property(lambda self: tmp_path))
    wanted = dataclasses.replace(HERE, insecure_http=True, extra_ca=True, published_construct=True)
    settings.save(wanted)
    assert settings.load(HERE.instance) == wanted
    assert os.stat(tmp_path / settings.NOTE).st_mode & 0o777 == 0o600


class Registry:
    """An engine with the images `labels` names; pulling brings the published one unless there is no registry."""

    path = Path("/engine.sock")

    def __init__(self, labels: dict[str, str] | None, *, answers: bool = True) -> None:
        self.labels, self.answers = labels, answers

    def json(self, method: str, path: str) -> Any:
        if self.labels is None:
            raise EngineAnswer("no such image", status=404)
        return {"Config": {"Labels": self.labels}}

    def pull(self, *, repository: str, tag: str) -> None:
        if not self.answers:
            raise ConnectionRefusedError("no registry")
        assert f"{repository}:{tag}" == "projectjackin/construct:trixie"
        self.labels = {}


@pytest.mark.parametrize("labels", [None, {LABEL_CONTENT: "0" * 64}, {}])
def test_the_published_construct_is_got_unless_it_is_there(
    monkeypatch: pytest.MonkeyPatch, labels: dict[str, str] | None
) -> None:
    engine: Any = Registry(labels, answers=labels != {})
    monkeypatch.setattr(base_image, "EngineApi", lambda path, timeout: engine)
    base_image.ensure_construct(engine)
    assert engine.labels == {}


def test_without_a_registry_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Registry(None, answers=False)
    monkeypatch.setattr(base_image, "EngineApi", lambda path, timeout: engine)
    with pytest.raises(HostError, match="JACKIN_PUBLISHED_CONSTRUCT"):
        base_image.ensure_construct(engine)


@pytest.mark.parametrize(
    ("env", "meant"),
    [
        ({}, ""),
        ({"NODE_EXTRA_CA_CERTS": "/n"}, "/n"),
        ({"NODE_EXTRA_CA_CERTS": "/n", "JACKIN_EXTRA_CA": "/j"}, "/j"),
        ({"NODE_EXTRA_CA_CERTS": "/n", "JACKIN_EXTRA_CA": ""}, ""),
    ],
)
def test_which_certificates_are_meant(env: dict[str, str], meant: str) -> None:
    assert settings.default_extra_ca(env) == meant
