"""The recent output of one terminal, addressed by the offset since the pump began."""

from __future__ import annotations

from typing import Final

LIMIT: Final = 512 * 1024
SAFE_START: Final = 4096  # how far a replay looks for the start of a line


class Ring:
    """The last `limit` bytes. `start` and `end` are offsets; `end` only ever grows."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.start = 0
        self._bytes = bytearray()

    @property
    def end(self) -> int:
        return self.start + len(self._bytes)

    def append(self, data: bytes) -> None:
        """Add output; the oldest makes room for it."""
        self._bytes += data
        self.forget_before(self.end - self.limit)

    def forget_before(self, position: int) -> None:
        """Let go of everything before `position`."""
        if (excess := position - self.start) > 0:
            del self._bytes[:excess]
            self.start += excess

    def read(self, position: int, most: int) -> bytes:
        """Up to `most` bytes from `position`, which has to lie between `start` and `end`."""
        at = position - self.start
        return bytes(memoryview(self._bytes)[at : at + most])

    def replay_start(self, most: int | None = None) -> int:
        """Where a replay of the last `most` bytes begins.

        Where the beginning is lost, that is after the first line end: no escape sequence spans one.
        """
        start = self.start if most is None else max(self.start, self.end - most)
        if start == 0:
            return 0
        line_end = self._bytes.find(b"\n", start - self.start, start - self.start + SAFE_START)
        return start if line_end < 0 else self.start + line_end + 1

    def missing_from(self, history: bytes) -> bytes | None:
        """What `history` holds beyond this ring, or None where the two do not meet.

        A stream that replaces a broken one comes with the engine's own record of the output. That lags behind by an
        unfinished line, or is ahead by what was printed while nobody read.
        """
        if self.start == 0 and (self._bytes.startswith(history) or history.startswith(self._bytes)):
            return history[len(self._bytes) :]
        if self._bytes.rfind(history[-SAFE_START:]) >= 0:
            return b""
        tail = bytes(self._bytes[-SAFE_START:])
        found = history.rfind(tail)
        return None if found < 0 else history[found + len(tail) :]
