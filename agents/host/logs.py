"""The log file of one process: bounded, and nothing in it can steer a terminal."""

from __future__ import annotations

import collections
import os
import re
from pathlib import Path

from agents.host.shell import visible

LOG_BYTES = 10 * 1024 * 1024
LINE_BYTES = 8192
LAST = 25
LOUD = re.compile(r"\b(ERROR|CRITICAL)\b|^Traceback|^\w+(\.\w+)*Error: ")


class ChildLog:
    """Takes what a process writes, line by line; keeps the last lines in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        os.fchmod(self._file.fileno(), 0o600)
        self._size = path.stat().st_size
        self._rest = b""
        self.last: collections.deque[str] = collections.deque(maxlen=LAST)

    def feed(self, data: bytes) -> list[str]:
        """Store `data`; returns the lines that a person should see now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:  # a line without end
            lines.append(self._rest)
            self._rest = b""
        return [text for line in lines if LOUD.search(text := self._store(line))]

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
