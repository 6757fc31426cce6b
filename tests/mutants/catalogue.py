"""The protections that can be taken away: one small patch each, with the attack that it lets through."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterable

FOLDER = pathlib.Path(__file__).resolve().parent
HEADS = ("Part", "Attack", "Protection", "Test")
# In the order of the document.
PARTS = {
    "files": "Files of the machine",
    "gate": "The container before and behind its gate",
    "counters": "Counters and limits of the kernel",
    "network": "Network",
    "groups": "Accounts and groups",
    "takeover": "Whoever has taken over the pages",
    "code": "Code and data of the service",
    "broker": "The broker under load",
    "browser": "Browser",
    "survival": "Survival",
}
TEST = re.compile(r"tests/(unit|db|contract|docker_live|browser)/[\w/]+\.py::\w+(\[.+\])?")


class BadMutant(Exception):
    """A patch whose head cannot be read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """One patch; `test` is the pytest id of the test that must fail with it."""

    name: str
    path: pathlib.Path
    part: str
    attack: str
    protection: str
    test: str

    @property
    def ring(self) -> str:
        """The ring of its test."""
        return self.test.split("/")[1]


def read(path: pathlib.Path) -> Mutant:
    """The mutant in `path`: lines `Part: … Attack: … Protection: … Test: …`, then a patch. Raises BadMutant."""
    head = path.read_text().partition("\n--- ")[0]
    found = {name: value.strip() for name, _, value in (line.partition(":") for line in head.splitlines()) if value}
    if sorted(found) != sorted(HEADS):
        raise BadMutant(f"{path.name}: has to begin with exactly {', '.join(HEADS)}, one line each")
    if found["Part"] not in PARTS:
        raise BadMutant(f"{path.name}: the part has to be one of {', '.join(PARTS)}")
    if not TEST.fullmatch(found["Test"]):
        raise BadMutant(f"{path.name}: {found['Test']} is not the id of one test")
    values = {name.lower(): found[name] for name in HEADS}
    return Mutant(name=path.stem, path=path, **values)


def read_all(folder: pathlib.Path = FOLDER) -> list[Mutant]:
    """All mutants, in the order of the document."""
    order = list(PARTS)
    found = [read(path) for path in sorted(folder.glob("*.patch"))]
    return sorted(found, key=lambda one: (order.index(one.part), one.name))


def chosen(mutants: Iterable[Mutant], words: Iterable[str]) -> list[Mutant]:
    """Those whose name or part is among `words`; all when there are none. Raises BadMutant for an unknown word."""
    mutants, wanted = list(mutants), set(words)
    if unknown := wanted - {one.name for one in mutants} - set(PARTS):
        raise BadMutant(f"there is no mutant and no part called {', '.join(sorted(unknown))}")
    return [one for one in mutants if not wanted or wanted & {one.name, one.part}]
