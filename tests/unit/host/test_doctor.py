"""The doctor's answer: what was tried, what failed, what to do; in words and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents.host import container_checks, doctor, host_checks, packages
from agents.host.checks import Check, Result
from agents.host.instance import Instance
from agents.host.shell import HostError, say

HERE = Instance(name="some", port=8123)
Examine = Callable[[Instance, Path], Iterator[Result]]


def examined(*results: Result) -> Examine:
    def examine(instance: Instance, tree: Path) -> Iterator[Result]:
        say("  starting the engine …")
        yield from results

    return examine


FINE = Result(name="kernel", status="ok", detail="Linux 6.1")
BAD = Result(name="disk space", status="failure", detail="1 GiB is free", remedy="Make room.")
UNTRIED = Result(name="DNS", status="untested", detail="the engine does not run")


@pytest.mark.parametrize(("results", "code"), [((FINE,), 0), ((FINE, BAD, UNTRIED), 1)])
def test_json_is_the_only_thing_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], results: tuple[Result, ...], code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", examined(*results))
    assert doctor.main(["--json"], HERE, Path("/")) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is (code == 0)
    assert [check["status"] for check in answer["checks"]] == [result.status for result in results]


def test_words_say_what_failed_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", examined(FINE, BAD, UNTRIED))
    assert doctor.main([], HERE, Path("/")) == 1
    said = capsys.readouterr().out
    assert "ok      kernel: Linux 6.1" in said
    assert "FAILURE disk space: 1 GiB is free\n        Make room." in said


def test_wrong_words_are_wrong_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--jsn"], HERE, Path("/"))
    assert ended.value.code == 2


def test_a_check_that_raises_is_a_failure_with_its_words() -> None:
    def look() -> str:
        raise HostError("It is too old.", remedy="Take a newer one.")

    result = doctor.attempt(Check(name="it", look=look, remedy="Look at it."))
    assert (result.status, result.detail, result.remedy) == ("failure", "It is too old.", "Take a newer one.")

    def broken() -> str:
        raise OSError(5, "Input/output error")

    assert doctor.attempt(Check(name="it", look=broken, remedy="Look at it.")).remedy == "Look at it."


def test_what_cannot_be_tried_is_said_so_and_not_called_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "checks", lambda instance: [])
    monkeypatch.setattr(packages, "missing", lambda: ["iptables"])
    found = list(doctor.examine(HERE, Path("/")))
    assert [(one.name, one.status) for one in found[:2]] == [("packages", "failure"), ("engine", "failure")]
    assert {one.name: one.status for one in found[2:]} == dict.fromkeys(container_checks.names(), "untested")
