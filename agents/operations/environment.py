"""What an agent finds in its environment: the owner's NAME=value lines, all of them secrets, and a git identity."""

from __future__ import annotations

import re
import socket

from agents.operations.errors import Invalid

MOST_VARIABLES = 64
MOST_BYTES = 16 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RESERVED_PREFIXES = ("JACKIN_", "LD_")
_RESERVED = frozenset({"PATH", "HOME", "USER", "SHELL", "TERM", "PWD", "BASH_ENV", "ENV"})


def parse_environment(text: str) -> dict[str, str]:
    """Names and values; raises Invalid at `environment`. No message ever holds a value.

    Empty lines and lines that start with `#` are skipped. A value is taken as it stands after the first `=`.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MOST_BYTES:
        raise Invalid({"environment": [f"{size} bytes are too many; at most {MOST_BYTES} are possible."]})
    found: dict[str, str] = {}
    wrong: list[str] = []
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name = name.removeprefix("export ").strip()
        if problem := _problem(name, equals, value, found):
            wrong.append(f"Line {number}: {problem}")
        else:
            found[name] = value
    if len(found) > MOST_VARIABLES:
        wrong.append(f"{len(found)} variables are too many; at most {MOST_VARIABLES} are possible.")
    if wrong:
        raise Invalid({"environment": wrong[:10]})
    return found


def git_identity(name: str, email: str, account: str) -> tuple[str, str]:
    """Name and address for commits; characters that git cannot take are left out."""
    address = email if "@" in email else f"{account}@{socket.gethostname()}"
    return _plain(name) or account, _plain(address)


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable() and c not in "<>")[:200].strip()


def _problem(name: str, equals: str, value: str, found: dict[str, str]) -> str:
    if not equals:
        return "there is no “=”; write NAME=value."
    if not _NAME.fullmatch(name):
        return "the name must be of letters, digits and _, not a digit first, at most 128 of them."
    if name in found:
        return f"{name} is there twice."
    if name in _RESERVED or name.startswith(_RESERVED_PREFIXES):
        return f"{name} is set by the service itself."
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in value):
        return f"the value of {name} has control characters."
    return ""
