"""The one function that makes foreign text harmless to read: in logs, pages, exports and on the command line."""

from __future__ import annotations

import logging
import unicodedata

# Controls, bidi and zero-width marks, surrogates, separators, and spaces that are not the plain one.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def visible(text: str, *, keep: str = "\t") -> str:
    """`text` with every character that is invisible or moves the cursor written as `\\xNN` or `\\uNNNN`.

    Joiners between emoji are escaped too: what looks odd is better than what lies.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or c == " " or unicodedata.category(c) not in _HIDDEN else _escaped(c) for c in text)


def shortened(text: str, *, most: int) -> str:
    """At most `most` characters, the end marked where something is missing."""
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class VisibleFormatter(logging.Formatter):
    """A log formatter whose messages cannot forge lines or colours; line breaks of tracebacks stay."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        return visible(super().formatException(ei), keep="\t\n")  # type: ignore[arg-type]
