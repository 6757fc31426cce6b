"""What the forwarder must understand of a DNS message (RFC 1035 §4), and nothing more: bytes in, bytes out."""

from __future__ import annotations

import dataclasses
import struct

HEADER = struct.Struct(">HHHHHH")  # id, flags, questions, answers, authorities, additionals
MOST_UDP = 4096
MOST_TCP = 65535
SERVER_FAILURE, REFUSED = 2, 5

_QR, _OPCODE, _TC, _RD, _RA = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080
_MOST_NAME, _MOST_LABEL = 255, 63
_MOST_ADDITIONALS = 2  # EDNS, and a signature
_CLASS_IN = 1
# Whole zones and mail agents of old; IXFR 251, AXFR 252, MAILB 253, MAILA 254.
_REFUSED_TYPES = frozenset({251, 252, 253, 254})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query:
    """A message that asks one thing; `question` is that section as it was sent."""

    message: bytes
    number: int
    flags: int
    question: bytes
    kind: int
    family: int

    @property
    def allowed(self) -> bool:
        """To the resolver the forwarder looks like a program of the host: what only those may ask is left out."""
        return self.family == _CLASS_IN and self.kind not in _REFUSED_TYPES

    def numbered(self, number: int) -> bytes:
        """The message under another id."""
        return number.to_bytes(2, "big") + self.message[2:]

    def refusal(self, code: int) -> bytes:
        """An answer that only says `code`."""
        flags = _QR | _RA | (self.flags & (_OPCODE | _RD)) | code
        return HEADER.pack(self.number, flags, 1, 0, 0, 0) + self.question

    def answered_by(self, message: bytes, *, number: int) -> bool:
        """Whether `message` answers this question, asked under the id `number`."""
        if len(message) < HEADER.size + len(self.question):
            return False
        found, flags, questions, *_ = HEADER.unpack_from(message)
        same = message[HEADER.size : HEADER.size + len(self.question)].lower() == self.question.lower()
        return bool(found == number and flags & _QR and questions == 1 and same)

    def answer(self, message: bytes, *, most: int) -> bytes:
        """What the client gets of the upstream's `message`: under its own id; too long, cut to `ask over TCP`."""
        if len(message) > most:
            flags = HEADER.unpack_from(message)[1] | _TC
            return HEADER.pack(self.number, flags, 1, 0, 0, 0) + self.question
        return self.number.to_bytes(2, "big") + message[2:]


def read_query(message: bytes) -> Query | None:
    """The query in `message`; None for an answer, an update, a notification, more than one question, or noise."""
    if len(message) < HEADER.size:
        return None
    number, flags, questions, answers, authorities, additionals = HEADER.unpack_from(message)
    if flags & (_QR | _OPCODE | _TC) or (questions, answers, authorities) != (1, 0, 0):
        return None
    end = _name_end(message, HEADER.size)
    if end is None or additionals > _MOST_ADDITIONALS or len(message) < end + 4:
        return None
    kind, family = struct.unpack_from(">HH", message, end)
    question = message[HEADER.size : end + 4]
    return Query(message=message, number=number, flags=flags, question=question, kind=kind, family=family)


def _name_end(message: bytes, at: int) -> int | None:
    """Where the name that begins at `at` ends; a question's name is never compressed."""
    limit = min(len(message), at + _MOST_NAME)
    while at < limit:
        length = message[at]
        if length == 0:
            return at + 1
        if length > _MOST_LABEL:
            return None
        at += 1 + length
    return None
