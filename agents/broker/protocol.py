"""What may be asked of the broker, and every code and sentence it answers with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from agents.broker.texts import TEXTS, shown

VERSION = 1
MOST_MOUNTS = 32
MOST_SECRETS = 128
MOST_SECRET_BYTES = 32 * 1024
MOST_LISTED = 200
MOST_PASSWORD = 1024  # bytes
MOST_PATH = 4096  # bytes, as PATH_MAX
MOST_COMPONENT = 255  # bytes, as NAME_MAX

Mode = Literal["ro", "rw"]

CODES = frozenset(TEXTS)
# Where a page shows them: these belong to the destination field of their mount, the others to its source field.
DESTINATION_CODES = frozenset({"destination-refused", "destination-twice", "destination-bad"})
MODE_CODES = frozenset({"not-writable"})
# These concern the person or the whole request, no single field.
GENERAL_CODES = frozenset(
    {"not-linked", "account-changed", "account-refused", "name-service", "ids-clash", "forbidden", "busy"}
    | {"unreadable", "state-too-large", "stream"}
    | {"not-proven", "account-expired", "account-taken", "too-many-tries", "pam-away"}
    | {"bad-request", "too-many", "conflict", "unknown-launch", "mismatch", "firewall", "internal"}
    | {"no-state", "state-account", "state-in-use", "not-deleted"}
)

LAUNCH = re.compile(r"[0-9a-f]{32}")
WEB_USER = re.compile(r"[\w.@+-]{1,150}")
ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]{0,62}\$?")
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Refusal(Exception):
    """The broker says no: a code of CODES, a whole sentence, what to do next, and the mount it concerns."""

    def __init__(self, code: str, *, index: int | None = None, **values: object) -> None:
        sentence, remedy = TEXTS[code]
        safe = {name: shown(str(value)) for name, value in values.items()}
        self.code = code
        self.index = index
        self.values = safe
        self.message = sentence.format(**safe)
        self.remedy = remedy.format(**safe)
        super().__init__(f"{code}: {self.message}")

    def at(self, index: int) -> Refusal:
        """The same refusal, about the mount number `index`."""
        self.index = index
        return self

    def reply(self) -> dict[str, Any]:
        """The answer on the wire."""
        return {
            "ok": False,
            "code": self.code,
            "message": self.message,
            "remedy": self.remedy,
            "index": self.index,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mount:
    """One mount as asked for; nothing about it is checked but the types and the mode."""

    source: str
    destination: str
    mode: Mode


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A request that keeps the schema. Fields that its operation does not have stay empty."""

    op: str
    web_user: str = ""
    account: str = ""
    password: str = dataclasses.field(default="", repr=False)
    launch: str = ""
    mounts: tuple[Mount, ...] = ()
    path: str = ""
    prefix: str = ""
    most: int = MOST_LISTED
    pid: int = 0
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    state: str = ""
    with_logins: bool = False
    stream: int = -1  # the descriptor that came with the message


def parse(message: Mapping[str, Any]) -> Request:
    """The request in `message`. Raises Refusal `bad-request` that names the first thing wrong."""
    op = message.get("op")
    if not isinstance(op, str) or op not in OPERATIONS:
        raise _bad(f"“op” has to be one of {', '.join(sorted(OPERATIONS))}")
    if type(message.get("v")) is not int or message["v"] != VERSION:
        raise _bad(f"“v” has to be {VERSION}")
    needed, optional = OPERATIONS[op]
    for name in message:
        if name not in needed and name not in optional and name not in {"op", "v"}:
            raise _bad(f"“{shown(str(name))}” is not a key of {op}")
    values: dict[str, Any] = {}
    for name in (*needed, *optional):
        if name in message:
            values[name] = FIELDS[name](message[name])
        elif name in needed:
            raise _bad(f"{op} needs “{name}”")
    return Request(op=op, **values)


def request(op: str, **fields: object) -> dict[str, Any]:
    """The message for `op`, as clients send it."""
    return {"v": VERSION, "op": op, **fields}


def _bad(detail: str) -> Refusal:
    return Refusal("bad-request", detail=detail)


def _matching(name: str, pattern: re.Pattern[str], what: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _bad(f"“{name}” has to be {what}")
        return value

    return check


def _text(name: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            raise _bad(f"“{name}” has to be text")
        return value

    return check


def _number(name: str, low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _bad(f"“{name}” has to be a whole number from {low} to {high}")
        return value

    return check


def _flag(name: str) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise _bad(f"“{name}” has to be true or false")
        return value

    return check


def _mounts(value: object) -> tuple[Mount, ...]:
    if not isinstance(value, list):
        raise _bad("“mounts” has to be a list")
    if len(value) > MOST_MOUNTS:
        raise Refusal("too-many", count=len(value), most=MOST_MOUNTS)
    return tuple(_mount(each) for each in value)


def _mount(value: object) -> Mount:
    if not isinstance(value, dict) or set(value) != {"source", "destination", "mode"}:
        raise _bad("a mount has exactly the keys source, destination and mode")
    if not isinstance(value["source"], str) or not isinstance(value["destination"], str):
        raise _bad("source and destination of a mount have to be text")
    if not isinstance(value["mode"], str) or value["mode"] not in get_args(Mode):
        raise _bad("the mode of a mount has to be ro or rw")
    return Mount(source=value["source"], destination=value["destination"], mode=value["mode"])  # type: ignore[arg-type]


def _secrets(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MOST_SECRETS:
        raise _bad(f"“secrets” has to be an object of at most {MOST_SECRETS} names")
    for name, secret in value.items():
        if not SECRET_NAME.fullmatch(name):
            raise _bad("the name of a secret has letters, digits and _, and does not start with a digit")
        if not isinstance(secret, str) or "\0" in secret or _bytes(secret) > MOST_SECRET_BYTES:
            raise _bad(f"the secret {name} has to be text without NUL, at most {MOST_SECRET_BYTES} bytes")
    return value


def _password(value: object) -> str:
    if not isinstance(value, str) or "\0" in value or not 0 < _bytes(value) <= MOST_PASSWORD:
        raise _bad(f"“password” has to be text without NUL, 1 to {MOST_PASSWORD} bytes")
    return value


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return MOST_SECRET_BYTES + 1  # more than any bound


FIELDS: Mapping[str, Callable[[object], Any]] = {
    "web_user": _matching("web_user", WEB_USER, "a user name of letters, digits and @ . + - _"),
    "account": _matching("account", ACCOUNT, "the name of a Unix account"),
    "password": _password,
    "launch": _matching("launch", LAUNCH, "32 hexadecimal digits"),
    "mounts": _mounts,
    "path": _text("path"),
    "prefix": _text("prefix"),
    "most": _number("most", 1, MOST_LISTED),
    "pid": _number("pid", 2, 2**31 - 1),
    "secrets": _secrets,
    "state": _matching("state", LAUNCH, "32 hexadecimal digits"),
    "with_logins": _flag("with_logins"),
}

# Operation → keys that must be there, keys that may be.
OPERATIONS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "identity": (("web_user",), ()),
    "links": ((), ()),
    "link": (("web_user", "account"), ()),
    "link_with_password": (("web_user", "account", "password"), ()),
    "unlink": (("web_user",), ()),
    "check": (("web_user", "mounts"), ()),
    "list": (("web_user", "path"), ("prefix", "most")),
    "stage": (("web_user", "launch", "mounts"), ("state",)),
    "admit": (("launch", "pid", "secrets"), ()),
    "release": (("launch",), ()),
    "staged": ((), ()),
    "archive": (("web_user", "state", "with_logins"), ()),
    "restore": (("web_user", "state", "with_logins"), ()),
    "forget_first_password": ((), ()),
    "make_state": (("web_user", "state"), ()),
    "measure_state": (("state",), ()),
    "list_states": ((), ()),
    "purge_state": (("state",), ()),
}
ONLY_ROOT = frozenset({"link"})  # taking a link away is no right gained: the runner does it for people who are deleted
STREAMS = frozenset({"archive", "restore"})  # come with one descriptor, an end of a pipe; they may take minutes
# These do more than look, and may take longer.
ACTS = frozenset({"stage", "admit", "release", "make_state", "measure_state", "purge_state", "link_with_password"})
