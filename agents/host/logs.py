"""The log file of one process: bounded, and nothing in it can steer a terminal."""

from __future__ import annotations

import collections
import os
import re
import time
from pathlib import Path

from agents.host.shell import visible

LOG_BYTES = 10 * 1024 * 1024
LINE_BYTES = 8192
LAST = 25
LOUD_PER_MINUTE = 40  # lines that a person is shown; whoever took over a process must not fill the terminal or its log
LOUD = re.compile(r"\b(ERROR|CRITICAL)\b|^Traceback|^\w+(\.\w+)*Error: ")


class ChildLog:
    """Takes what a process writes, line by line; keeps the last lines in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        os.fchmod(self._file.fileno(), 0o600)
        self._size = path.stat().st_size
        self._rest = b""
        self._minute, self._loud = 0.0, 0
        self.last: collections.deque[str] = collections.deque(maxlen=LAST)

    def feed(self, data: bytes) -> list[str]:
        """Store `data`; returns the lines that a person should see now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:  # a line without end
            lines.append(self._rest)
            self._rest = b""
        loud = [text for line in lines if LOUD.search(text := self._store(line))]
        return self._few(loud) if loud else []

    def _few(self, lines: list[str]) -> list[str]:
        if time.monotonic() - self._minute > 60:
            self._minute, self._loud = time.monotonic(), 0
        shown = lines[: max(0, LOUD_PER_MINUTE - self._loud)]
        if self._loud < LOUD_PER_MINUTE <= self._loud + len(lines):
            shown.append(f"(more for one minute only in {self._path})")
        self._loud += len(lines)
        return shown

    def _store(self, line: bytes) -> str:
        text = visible(line[:LINE_BYTES].decode(errors="replace").rstrip("\r"))
        self.last.append(text)
        written = f"{text}\n".encode()
        if self._size + len(written) > LOG_BYTES:
            self._rotate()
        self._file.write(written)
        self._size += len(written)
        return text

    def _rotate(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_suffix(".log.1"))
        self._file = self._path.open("ab", buffering=0)
        os.fchmod(self._file.fileno(), 0o600)
        self._size = 0

    def close(self) -> None:
        """Store an unfinished line and close the file."""
        if self._rest:
            self._store(self._rest)
            self._rest = b""
        self._file.close()
