"""Names of an agent's container, network and images: `jackin-<owner>-<class>`, further ones `…-clone-<n>`."""

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


def agent_name(owner: str, agent_class: str, *, taken: Collection[str]) -> str:
    """The first free name for an agent of `owner`: the primary one, else `-clone-1`, `-clone-2` …

    Two owners may have the same slug (`j.doe`, `j-doe`): `taken` must hold everybody's names.
    """
    primary = f"jackin-{slug(owner)}-{slug(agent_class)}"
    if primary not in taken:
        return primary
    number = 1
    while f"{primary}-clone-{number}" in taken:
        number += 1
    return f"{primary}-clone-{number}"


def network_name(agent: str) -> str:
    """Name of the agent's own network; the container is called like the agent."""
    return f"{agent}-net"


def hostname(agent: str) -> str:
    """The container's host name: the agent's name without the prefix, a valid DNS label."""
    return agent.removeprefix("jackin-")[:MOST_NAME].strip("-") or "agent"


def class_tag(agent_class: str, content: str) -> str:
    """Tag of the class image of this content."""
    return f"jackin/class-{slug(agent_class, most=40)}:{content[:12]}"


def derived_tag(agent_class: str, runtime: str, content: str) -> str:
    """Tag of the derived image of this content."""
    return f"jackin/{slug(agent_class, most=40)}-{slug(runtime)}:{content[:12]}"
