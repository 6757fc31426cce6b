"""Names as people read them."""

from __future__ import annotations

from typing import Final

from agents.models import Agent

RUNTIMES: Final = {"claude": "Claude Code", "shell": "Shell (zsh)"}


def runtime_title(runtime: str) -> str:
    return RUNTIMES.get(runtime, runtime)


def short_name(agent: Agent) -> str:
    """`agent-smith-clone-1` for `jackin-alice-agent-smith-clone-1`: on one's own pages the rest says nothing."""
    return agent.name.removeprefix(f"jackin-{agent.owner.username}-")
