"""Who mounted what: looking grants up by person and by path, and exporting them."""

from __future__ import annotations

import csv
import datetime
import io
import posixpath
import re
from collections.abc import Iterator
from typing import Any, Final

from django.db import transaction
from django.db.models import Q, QuerySet

from agents.models import LIVE_STATES, MountGrant
from agents.operations import audit, permissions
from agents.operations.permissions import Action, Person
from agents.operations.text import visible

HEADER: Final = (
    "granted_at",
    "person",
    "class",
    "agent",
    "agent_key",
    "path_asked",
    "real_path",
    "destination",
    "mode",
    "active",
    "reason",
)
_FIELDS: Final = (
    "granted_at",
    "granted_by__username",
    "agent__agent_class__slug",
    "agent__name",
    "agent__key",
    "source_asked",
    "real_path",
    "destination",
    "mode",
    "agent__state",
    "reason",
)
ROWS_AT_ONCE: Final = 500
MOST_PATH: Final = 4096  # characters; there are no longer ones
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_SHOWN: Final = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")


def searched(grants: QuerySet[MountGrant], text: str) -> QuerySet[MountGrant]:
    """Those of `grants` that `text` means: words of the person's, agent's or class's name, then a path.

    A path finds grants on itself, on everything below it and on everything above it: who was given `/srv` has
    `/srv/data`. It begins at the first word with a slash in front and goes to the end of the text.
    """
    words, slash, rest = _parts(text)
    for word in words.split():
        grants = grants.filter(
            Q(granted_by__username__icontains=word)
            | Q(agent__name__icontains=word)
            | Q(agent__key=word)
            | Q(agent__agent_class__slug__icontains=word)
        )
    return grants.filter(about_path(slash + rest)) if slash else grants


def _parts(text: str) -> tuple[str, str, str]:
    text = text.replace("\x00", "")
    found = re.search(r"(?:^|\s)/", text)
    return (text[: found.start()], "/", text[found.end() :]) if found else (text, "", "")


def about_path(path: str) -> Q:
    """Grants on `path`, above it or below it, as asked or as it really is; a path that is shown escaped counts, too.

    Whole names only: `/srv` is not `/srvx`. The range of what is below uses the index, as LIKE would not.
    """
    condition = Q()
    for one in {_plain(path), _plain(_unescaped(path))}:
        below = one.rstrip("/") + "/"
        after = below[:-1] + chr(ord("/") + 1)  # the first text behind all that begin with `below`
        for field in ("real_path", "source_asked"):
            condition |= Q(**{f"{field}__in": _lineage(one)})
            condition |= Q(**{f"{field}__gte": below, f"{field}__lt": after})
    return condition


def _plain(path: str) -> str:
    """Without doubled slashes, dots and the slash at the end: text only, nothing is looked up."""
    return posixpath.normpath("/" + path.strip("\r\n\t").lstrip("/")[:MOST_PATH])


def _unescaped(path: str) -> str:
    def character(found: re.Match[str]) -> str:
        code = int(next(filter(None, found.groups())), 16)
        fits = 0 < code < 0x110000 and not 0xD800 <= code < 0xE000
        return chr(code) if fits else found.group()

    return _SHOWN.sub(character, path)


def _lineage(path: str) -> list[str]:
    """The path and all directories above it: `/a/b` gives `/a/b`, `/a`, `/`."""
    found = [path]
    while found[-1] != "/":
        found.append(posixpath.dirname(found[-1]))
    return found


def active(grants: QuerySet[MountGrant], *, now: bool) -> QuerySet[MountGrant]:
    """Those whose agent has a container, or may have one; or the others."""
    return grants.filter(agent__state__in=LIVE_STATES) if now else grants.exclude(agent__state__in=LIVE_STATES)


def export(person: Person, *, grants: QuerySet[MountGrant], asked: str) -> Iterator[str]:
    """CSV of `grants`, the newest first, in pieces of some hundred lines; `asked` says in the audit what was filtered.

    Raises Refused. Grants that are added meanwhile are not in it.
    """
    with transaction.atomic(durable=True):
        allowed = permissions.can(person, Action.EXPORT_LEDGER)
        if allowed:
            audit.record(Action.EXPORT_LEDGER, actor=person.get_username(), summary=asked or "all grants")
    if not allowed:
        permissions.check(person, Action.EXPORT_LEDGER)
    return _pieces(grants)


def _pieces(grants: QuerySet[MountGrant]) -> Iterator[str]:
    """Page by page from the newest key down: no cursor stays open while a slow reader reads."""
    yield _lines([HEADER])
    rows = grants.order_by("-pk").values_list("pk", *_FIELDS)
    last: int | None = None
    while found := list((rows if last is None else rows.filter(pk__lt=last))[:ROWS_AT_ONCE]):
        yield _lines([_cells(row[1:]) for row in found])
        last = found[-1][0]


def _cells(row: tuple[Any, ...]) -> list[str]:
    shown = [value.isoformat() if isinstance(value, datetime.datetime) else str(value) for value in row]
    place = _FIELDS.index("agent__state")
    shown[place] = "yes" if shown[place] in LIVE_STATES else "no"
    return shown


def _lines(rows: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(
        [safe_cell(v) for v in row] for row in rows
    )
    return text.getvalue()


def safe_cell(value: str) -> str:
    """Every character visible, and nothing that a spreadsheet would take for a formula."""
    risky = value.lstrip(" ").startswith(FORMULA)
    shown = visible(value, keep="")
    return f"'{shown}" if risky else shown
