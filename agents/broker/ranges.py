"""Ranges of subordinate ids: what /etc/subuid and /etc/subgid give away, and whether that clashes with ours."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from agents.broker.protocol import Refusal
from agents.host.instance import REMAP_BASE, REMAP_COUNT, USER_REMAP

UIDS = Path("/etc/subuid")
GIDS = Path("/etc/subgid")

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """One line of subuid(5) or subgid(5)."""

    owner: str
    first: int
    count: int

    def overlaps(self, other: Range) -> bool:
        """Whether they have an id in common."""
        return self.first < other.first + other.count and other.first < self.first + self.count

    def holds(self, number: int) -> bool:
        """Whether the id lies in it."""
        return self.first <= number < self.first + self.count

    def __str__(self) -> str:
        return f"{self.first}:{self.count}"


OURS = Range(owner=USER_REMAP, first=REMAP_BASE, count=REMAP_COUNT)


def parse(text: str) -> list[Range]:
    """The ranges of a subuid or subgid file; lines that are none are left out, as the tools do."""
    found = []
    for line in text.splitlines():
        owner, *numbers = line.strip().split(":")
        if len(numbers) == 2 and all(_NUMBER.fullmatch(number) for number in numbers):
            first, count = map(_number, numbers)
            found.append(Range(owner=owner, first=first, count=count))
    return found


def _number(text: str) -> int:
    """As newuidmap reads it (strtoul with any base): 0x… is hexadecimal, 0… octal."""
    if text[:2] in {"0x", "0X"}:
        return int(text, 16)
    return int(text, 8) if text.startswith("0") and not set(text) & {"8", "9"} else int(text)


def read(file: Path) -> list[Range]:
    """The ranges in `file`; none if there is no such file."""
    try:
        return parse(file.read_text(errors="replace"))
    except FileNotFoundError:
        return []


def clash(ranges: Iterable[Range]) -> str:
    """Why our range cannot be used beside `ranges`, or an empty string."""
    for found in ranges:
        if found.owner == USER_REMAP and (found.first, found.count) != (OURS.first, OURS.count):
            return f"{USER_REMAP} has the range {found}, it needs {OURS}"
        if found.owner != USER_REMAP and found.overlaps(OURS):
            return f"the range {found} of {found.owner} overlaps {OURS}"
    return ""


def check() -> None:
    """Raises Refusal `ids-clash` while somebody else has ids of the containers': they would be root over all of them.

    `serve` looks once at its start; a line can be added at any time later.
    """
    for file in (UIDS, GIDS):
        if reason := clash(read(file)):
            raise Refusal("ids-clash", file=file, reason=reason, ours=OURS)
