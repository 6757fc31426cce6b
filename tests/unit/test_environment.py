"""The environment text of a launch: what is taken, what is refused, and that no message tells a value."""

from __future__ import annotations

import pytest

from agents.operations.environment import MOST_BYTES, git_identity, parse_environment
from agents.operations.errors import Invalid


def test_lines_become_names_and_values() -> None:
    text = "# a comment\n\nA=1\r\nexport TOKEN=a=b c \n  B_2=\n"
    assert parse_environment(text) == {"A": "1", "TOKEN": "a=b c", "B_2": ""}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hunter2", "Line 1: there is no “=”"),
        ("A=1\n2B=hunter2", "Line 2: the name"),
        ("A=hunter2\nA=hunter2", "Line 2: A is there twice"),
        ("JACKIN_WORKDIR=hunter2", "set by the service"),
        ("LD_PRELOAD=hunter2", "set by the service"),
        ("PATH=hunter2", "set by the service"),
        ("A=hunter2\x00", "control characters"),
        ("A=" + "hunter2" * 10_000, f"at most {MOST_BYTES}"),
        ("\n".join(f"A{n}=hunter2" for n in range(65)), "too many"),
    ],
)
def test_refused_lines_are_named_without_their_value(text: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_environment(text)
    assert list(caught.value.errors) == ["environment"]
    assert says in caught.value.message
    assert "hunter2" not in caught.value.message


def test_git_identity_takes_nothing_that_git_could_misread() -> None:
    assert git_identity("Al<ice>\n", "alice@example.org", "al") == ("Alice", "alice@example.org")
    name, email = git_identity("\n", "", "al")
    assert name == "al"
    assert email.startswith("al@")
