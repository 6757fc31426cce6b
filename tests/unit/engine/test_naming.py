"""Names: valid for Docker and DNS, unique, and never another's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine import naming


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice", "alice"),
        ("Alice.Smith", "alice-smith"),
        ("--x--y--", "x-y"),
        ("ümläut", "ml-ut"),
        ("", "x"),
        ("日本", "x"),
        ("bob-clone-2", "bob"),
        ("a" * 40, "a" * 20),
    ],
)
def test_slugs(text: str, expected: str) -> None:
    assert naming.slug(text) == expected


@given(st.text(), st.text(), st.integers(min_value=0, max_value=30))
def test_every_name_is_valid_and_free(owner: str, agent_class: str, others: int) -> None:
    taken: set[str] = set()
    for _ in range(others):
        taken.add(naming.agent_name(owner, agent_class, taken=taken))
    assert len(taken) == others
    name = naming.agent_name(owner, agent_class, taken=taken)
    assert name not in taken
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= naming.MOST_NAME
    assert naming.is_agent_name(name, owner=owner, agent_class=agent_class)


def test_the_first_is_primary_and_the_next_are_clones() -> None:
    first = naming.agent_name("alice", "agent-smith", taken=())
    second = naming.agent_name("alice", "agent-smith", taken={first})
    third = naming.agent_name("alice", "agent-smith", taken={first, second})
    assert (first, second, third) == (
        "jackin-alice-agent-smith",
        "jackin-alice-agent-smith-clone-1",
        "jackin-alice-agent-smith-clone-2",
    )
    assert naming.agent_name("alice", "agent-smith", taken={second}) == first


@pytest.mark.parametrize(
    "name",
    [
        "jackin-alice-agent-smith-clone-0",
        "jackin-alice-agent-smith-clone-1\n",
        "jackin-alice-agent-smith-clone-",
        "jackin-alice-agent-smithy",
        "jackin-bob-agent-smith",
        "alice-agent-smith",
        "",
    ],
)
def test_other_names_are_nobodys(name: str) -> None:
    assert not naming.is_agent_name(name, owner="alice", agent_class="agent-smith")


def test_tags_are_short_and_name_their_content() -> None:
    assert naming.class_tag("agent-smith", "a" * 64) == "jackin/class-agent-smith:aaaaaaaaaaaa"
    assert naming.derived_tag("agent-smith", "claude", "b" * 64) == "jackin/agent-smith-claude:bbbbbbbbbbbb"
