"""What an agent will and will not be able to do, in sentences a person can check; the sensitive ones first."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from agents.web.forms.mounts import MountRow

MOST_SHOWN = 400  # characters of one path: the form shows it whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sentence:
    text: str
    paths: tuple[str, ...] = ()
    detail: str = ""
    sensitive: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preview:
    can: tuple[Sentence, ...]
    cannot: tuple[Sentence, ...]


def preview(rows: Sequence[MountRow], *, account: str) -> Preview:
    """Made from what is typed, before anything was checked. `account` is the Unix account, or empty."""
    named = [row for row in rows if row.source.strip()]
    writable = tuple(_shown(row) for row in named if row.mode == "rw")
    readable = tuple(_shown(row) for row in named if row.mode != "rw")
    return Preview(can=_can(writable, readable, account=account), cannot=_cannot(readable, account=account))


def _can(writable: tuple[str, ...], readable: tuple[str, ...], *, account: str) -> tuple[Sentence, ...]:
    as_whom = f"as {account}" if account else ""
    found = [
        Sentence(
            text="Send what it reads to the internet", detail="what it may reach there is not limited", sensitive=True
        )
    ]
    if writable:
        later = "what it writes includes .git/hooks, Makefile, .envrc: look before you run them"
        found.insert(0, Sentence(text="Change what you later run", detail=later, sensitive=True))
        found.append(Sentence(text="Read and write", paths=writable, detail=as_whom))
    if readable:
        found.append(Sentence(text="Read", paths=readable, detail=as_whom))
    return (
        *found,
        Sentence(text="Run any command and install packages in its container, as root there too"),
        Sentence(text="Read the environment values that you hand over"),
    )


def _cannot(readable: tuple[str, ...], *, account: str) -> tuple[Sentence, ...]:
    found = [Sentence(text="See any other file of this machine")]
    if readable:
        found.append(Sentence(text="Write to", paths=readable))
    return (
        *found,
        Sentence(text="Reach this machine's own services or its Docker engine, or run containers"),
        Sentence(text="See other agents: containers, networks, files"),
        Sentence(text=f"Do anything on this machine that {account or 'your Unix account'} could not"),
    )


def _shown(row: MountRow) -> str:
    source = row.source.strip()
    return source if len(source) <= MOST_SHOWN else source[:MOST_SHOWN] + "…"
