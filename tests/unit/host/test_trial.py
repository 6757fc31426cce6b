"""Trial containers of the doctor: what they printed, and when they have ended."""

from __future__ import annotations

import pytest

from agents.host.trial import Answer, ended


@pytest.mark.parametrize("output", ["", "some\n", "jackin-trial-end ", "jackin-trial-end 0", "a jackin-trial-end 0\n"])
def test_it_goes_on_until_its_last_line_is_whole(output: str) -> None:
    assert ended(output) is None


def test_words_on_stderr_may_come_after_the_last_line() -> None:
    assert ended("one\njackin-trial-end 0\nTerminated\n") == Answer(code=0, output="one\nTerminated\n")
    assert ended("Terminated\njackin-trial-end 143\n") == Answer(code=143, output="Terminated\n")
