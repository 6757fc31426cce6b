"""Names of agents and images: `jackin-<owner>-<class>`, further ones `…-clone-<n>`."""

from __future__ import annotations

import re
from collections.abc import Collection

MOST_NAME = 63  # one DNS label: the name is the container's host name too
MOST_PART = 20
_CLONE = re.compile(r"-clone-[0-9]+$")


def slug(text: str, *, most: int = MOST_PART) -> str:
    """`text` as lower-case letters, digits and single dashes, at most `most` long; `x` if nothing is left.

    A trailing `-clone-<n>` is cut off, so that nobody's own name looks like a clone of another's agent.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:most].strip("-")
    return _CLONE.sub("", plain).strip("-") or "x"


def primary_name(owner: str, agent_class: str) -> str:
    """The name of the first agent of `owner` and this class, and what those of all others begin with."""
    return f"jackin-{slug(owner)}-{slug(agent_class)}"


def agent_name(owner: str, agent_class: str, *, taken: Collection[str]) -> str:
    """The first free name for an agent of `owner`: the primary one, else `-clone-1`, `-clone-2` …

    Two owners may have the same slug (`j.doe`, `j-doe`): `taken` must hold everybody's names.
    """
    primary = primary_name(owner, agent_class)
    if primary not in taken:
        return primary
    number = 1
    while f"{primary}-clone-{number}" in taken:
        number += 1
    return f"{primary}-clone-{number}"


def is_agent_name(name: str, *, owner: str, agent_class: str) -> bool:
    """Whether `agent_name` could have given `name`, whatever was taken then."""
    return re.fullmatch(re.escape(primary_name(owner, agent_class)) + r"(-clone-[1-9][0-9]{0,5})?", name) is not None


def class_tag(agent_class: str, content: str) -> str:
    """Tag of the class image of this content."""
    return f"jackin/class-{slug(agent_class, most=40)}:{content[:12]}"


def derived_tag(agent_class: str, runtime: str, content: str) -> str:
    """Tag of the derived image of this content."""
    return f"jackin/{slug(agent_class, most=40)}-{slug(runtime)}:{content[:12]}"
