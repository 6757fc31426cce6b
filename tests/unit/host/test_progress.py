"""Progress: what takes longer than two seconds is named, with its time; what is quick says nothing."""

from __future__ import annotations

import threading

import pytest

from agents.host import shell
from agents.host.shell import HostError, step


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that were shown."""
    lines: list[str] = []
    monkeypatch.setattr(shell, "say", lines.append)
    return lines


def test_the_limit_is_two_seconds() -> None:
    assert shell.SLOW_SECONDS <= 2


def test_what_is_quick_says_nothing(said: list[str]) -> None:
    with step("looking"):
        pass
    assert said == []


def test_what_is_slow_is_named_while_it_runs_and_timed_at_its_end(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "SLOW_SECONDS", 0.01)
    named = threading.Event()
    monkeypatch.setattr(shell, "say", lambda line: (said.append(line), named.set()))
    with step("building"):
        assert named.wait(10)
        assert said == ["  building …"]
    assert said[-1].startswith("  building: 0.")


def test_a_slow_failure_is_called_one(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "SLOW_SECONDS", 0.0)
    with pytest.raises(HostError), step("building"):
        raise HostError("The disk is full.")
    assert "failed after" in said[-1]


def test_tidying_up_after_a_failure_has_not_failed_itself(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "SLOW_SECONDS", 0.0)
    try:
        raise HostError("The disk is full.")
    except HostError:
        with step("stopping"):
            pass
    assert "failed" not in said[-1]
