"""What must be true before steps of a build run."""

from __future__ import annotations

from typing import Any

import pytest

from agents.engine import builds
from agents.engine.client import DockerEngine
from agents.engine.errors import BrokerRefused
from agents.engine.types import BuildSpec, Limits

SPEC = BuildSpec(tag="x:y", files={}, content="abc", args={}, limits=Limits(cpus=1.0, memory=1 << 28, pids=64))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tags of the builds that ran; no image is there."""
    found: list[str] = []
    monkeypatch.setattr(DockerEngine, "image_content", lambda *_: None)

    def build(pool: Any, spec: BuildSpec, **_: Any) -> str:
        found.append(spec.tag)
        return "sha256:1"

    monkeypatch.setattr(builds, "build", build)
    return found


def test_no_step_of_a_build_runs_while_the_firewall_is_not_complete(built: list[str]) -> None:
    def refuse() -> None:
        raise BrokerRefused("The firewall is not complete.", code="firewall")

    engine = DockerEngine("/nonexistent", instance="x", before_build=refuse)
    with pytest.raises(BrokerRefused):
        engine.build_image(SPEC, log=lambda _: None)
    assert built == []
    assert DockerEngine("/nonexistent", instance="x").build_image(SPEC, log=lambda _: None) == "sha256:1"


def test_an_image_that_is_up_to_date_asks_nobody(built: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DockerEngine, "image_content", lambda *_: "abc")
    monkeypatch.setattr(DockerEngine, "image_id", lambda *_: "sha256:2")
    asked: list[str] = []
    engine = DockerEngine("/nonexistent", instance="x", before_build=lambda: asked.append("asked"))
    assert engine.build_image(SPEC, log=lambda _: None) == "sha256:2"
    assert (asked, built) == ([], [])


def test_the_services_own_engine_asks_the_guard(monkeypatch: pytest.MonkeyPatch, built: list[str]) -> None:
    from agents.engine.broker_client import BrokerClient
    from agents.operations.engines import build_engines

    asked: list[str] = []
    monkeypatch.setattr(BrokerClient, "network_ready", lambda _: asked.append("asked"))
    build_engines().engine.build_image(SPEC, log=lambda _: None)
    assert asked == ["asked"]
