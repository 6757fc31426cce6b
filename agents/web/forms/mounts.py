"""The mount rows of the launch form: posted, added, removed and shown again as they were typed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, cast

from django.http import QueryDict

from agents.engine.types import Mode, MountRequest
from agents.operations.mounts import MOST_MOUNTS, default_destination

TEMPLATE_INDEX = "__n__"  # static/src/mounts.js replaces it


@dataclasses.dataclass(kw_only=True)
class MountRow:
    """One mount as typed. `errors` are lists of messages by `source`, `destination` and `mode`."""

    index: int | str
    source: str = ""
    destination: str = ""
    mode: str = "ro"
    errors: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @property
    def id(self) -> str:
        """What the row's ids and field names begin with."""
        return f"mounts-{self.index}"

    @property
    def number(self) -> int | str:
        """What people count: from 1."""
        return self.index + 1 if isinstance(self.index, int) else self.index

    @property
    def is_project(self) -> bool:
        return self.index == 0

    @property
    def placeholder(self) -> str:
        return "/home/…/project" if self.is_project else "/srv/…"

    @property
    def is_blank(self) -> bool:
        return not self.source.strip() and not self.destination.strip()

    def request(self) -> MountRequest:
        """What is asked for; an empty destination means the usual one."""
        source = self.source.strip()
        destination = self.destination.strip() or default_destination(source)
        return MountRequest(source=source, destination=destination, mode=cast(Mode, self.mode))


def project_row() -> MountRow:
    """The first row of an empty form: the project, writable."""
    return MountRow(index=0, mode="rw")


def blank_row(index: int | str) -> MountRow:
    return MountRow(index=index)


def posted_rows(data: QueryDict | Mapping[str, Any]) -> list[MountRow]:
    """The rows of a posted form; their number is bounded, whatever was posted. At least the project."""
    count = str(data.get("mounts-count", "1"))
    wanted = int(count) if count.isdecimal() and len(count) < 6 else 1
    return [_posted(data, index) for index in range(max(1, min(wanted, MOST_MOUNTS + 1)))]


def _posted(data: QueryDict | Mapping[str, Any], index: int) -> MountRow:
    def typed(name: str) -> str:
        return str(data.get(f"mounts-{index}-{name}", ""))

    return MountRow(index=index, source=typed("source"), destination=typed("destination"), mode=typed("mode") or "ro")


def asked_rows(mounts: Iterable[MountRequest]) -> list[MountRow]:
    """The rows of an earlier launch, from what its operation kept."""
    rows = [
        MountRow(index=index, source=m.source, destination=m.destination, mode=m.mode) for index, m in enumerate(mounts)
    ]
    return rows or [project_row()]


def with_added(rows: list[MountRow]) -> list[MountRow]:
    """One more row, unless there are as many as can be."""
    return [*rows, blank_row(len(rows))] if len(rows) < MOST_MOUNTS else rows


def without(rows: list[MountRow], which: str) -> list[MountRow]:
    """All but row `which` (its index as text); the project stays."""
    kept = [row for row in rows if row.is_project or str(row.index) != which]
    return [dataclasses.replace(row, index=index) for index, row in enumerate(kept)]


def filled(rows: list[MountRow]) -> list[MountRow]:
    """Without the further rows that were left empty, numbered anew, so that errors meet their row."""
    kept = [row for row in rows if row.is_project or not row.is_blank]
    return [dataclasses.replace(row, index=index) for index, row in enumerate(kept)]
