"""What a check of the doctor is, and what it answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """`look` returns what was found, or raises HostError or OSError; `remedy` is what to do then."""

    name: str
    look: Callable[[], str]
    remedy: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the doctor's report."""

    name: str
    status: Literal["ok", "failure", "untested"]
    detail: str
    remedy: str = ""
