"""Writing a state as a tar; runs in a child that has dropped to the state's owner."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from agents.broker import logins, tars
from agents.broker.protocol import Refusal
from agents.broker.tars import Entry

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Packer:
    """Walks the directory `root` (O_PATH will do) and gives the tar to `write`; follows no link, enters no mount.

    What changes meanwhile is taken as it was when its size was looked at: padded with zeros, or cut.
    """

    def __init__(self, root: int, *, write: Callable[[bytes], None], with_logins: bool) -> None:
        self._write = write
        self._with_logins = with_logins
        self._root = os.open(".", _DIRECTORY, dir_fd=root)
        self._device = os.fstat(self._root).st_dev
        self._first: dict[tuple[int, int], bytes] = {}  # where a file with several names was written
        self._login_files = set() if with_logins else self._linked_logins()
        self._listed = 0
        self._entries = self._bytes = self._skipped = self._changed = self._logins = 0

    def pack(self) -> dict[str, Any]:
        """Write everything and the end; returns the numbers. Raises Refusal, and whatever `write` raises."""
        try:
            self._directory(self._root, b"", 0)
        finally:
            os.close(self._root)
        self._write(tars.END)
        return {
            "entries": self._entries,
            "bytes": self._bytes,
            "skipped": self._skipped,
            "changed": self._changed,
            "logins_left_out": self._logins,
        }

    def _linked_logins(self) -> set[tuple[int, int]]:
        """Login files that have further names somewhere in the state."""
        found = set()
        for name in logins.KNOWN:
            try:
                status = os.stat(name, dir_fd=self._root, follow_symlinks=False)
            except OSError:
                continue
            if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                found.add((status.st_dev, status.st_ino))
        return found

    def _directory(self, fd: int, name: bytes, depth: int) -> None:
        if depth >= tars.MOST_DEPTH:
            raise _too_large(f"it is deeper than {tars.MOST_DEPTH} directories")
        names = []
        with os.scandir(fd) as found:
            for each in found:
                names.append(os.fsencode(each.name))
                self._listed += 1
                if self._listed > tars.MOST_ENTRIES:
                    raise _too_large(f"it has more than {tars.MOST_ENTRIES} entries")
        for base in sorted(names):
            self._one(fd, base, name + b"/" + base if name else base, depth)

    def _one(self, parent: int, base: bytes, name: bytes, depth: int) -> None:
        kind = "" if self._with_logins else logins.kind(name)
        if kind == "leave":
            self._logins += 1
            return
        if len(name) >= tars.MOST_NAME:
            raise _too_large("a path in it is too long")
        try:
            status = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                link = os.readlink(base, dir_fd=parent)
                self._put(Entry(name=name, kind=tars.SYMLINK, mode=0o777, mtime=int(status.st_mtime), link=link))
            elif stat.S_ISDIR(status.st_mode):
                self._enter(parent, base, name, depth)
            elif stat.S_ISREG(status.st_mode):
                self._file(parent, base, name, scrub=kind == "scrub")
            else:
                self._skipped += 1
        except FileNotFoundError:
            self._changed += 1  # it went while we looked
        except NotADirectoryError:
            self._changed += 1  # it became something else
        except PermissionError as error:
            if error.filename is None:
                raise
            raise Refusal("unreadable", path=os.fsdecode(name)) from None

    def _enter(self, parent: int, base: bytes, name: bytes, depth: int) -> None:
        fd = os.open(base, _DIRECTORY, dir_fd=parent)
        try:
            status = os.fstat(fd)
            if status.st_dev != self._device:
                self._skipped += 1
                return
            self._put(Entry(name=name, kind=tars.DIRECTORY, mode=_mode(status), mtime=int(status.st_mtime)))
            self._directory(fd, name, depth + 1)
        finally:
            os.close(fd)

    def _file(self, parent: int, base: bytes, name: bytes, *, scrub: bool) -> None:
        try:
            fd = os.open(base, _FILE, dir_fd=parent)
        except OSError as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            self._changed += 1  # a link or a socket by now
            return
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_dev != self._device:
                self._skipped += 1
                return
            place = (status.st_dev, status.st_ino)
            if scrub:
                self._configuration(fd, name, status)
            elif place in self._login_files:
                self._logins += 1
            elif status.st_nlink > 1 and place in self._first:
                self._put(Entry(name=name, kind=tars.HARD_LINK, mode=_mode(status), link=self._first[place]))
            else:
                if status.st_nlink > 1:
                    self._first[place] = name
                self._content(fd, name, status)
        finally:
            os.close(fd)

    def _configuration(self, fd: int, name: bytes, status: os.stat_result) -> None:
        content = b""
        while piece := os.read(fd, tars.PIECE):
            content += piece
            if len(content) > logins.MOST_CONFIGURATION:
                break
        kept = logins.scrubbed(content) if len(content) <= logins.MOST_CONFIGURATION else None
        if kept != content:
            self._logins += 1
        if kept is not None:
            self._put(_plain(name, status, size=len(kept)))
            self._write(kept + bytes(tars.padding(len(kept))))

    def _content(self, fd: int, name: bytes, status: os.stat_result) -> None:
        self._put(_plain(name, status, size=status.st_size))
        left = status.st_size
        while left:
            piece = os.read(fd, min(tars.PIECE, left))
            if not piece:
                self._changed += 1
                break
            self._write(piece)
            left -= len(piece)
        while left:
            self._write(bytes(min(tars.PIECE, left)))
            left -= min(tars.PIECE, left)
        self._write(bytes(tars.padding(status.st_size)))

    def _put(self, entry: Entry) -> None:
        self._entries += 1
        self._bytes += entry.size
        if self._entries > tars.MOST_ENTRIES:
            raise _too_large(f"it has more than {tars.MOST_ENTRIES} entries")
        if self._bytes > tars.MOST_BYTES:
            raise _too_large(f"its files have more than {tars.MOST_BYTES >> 30} GiB")
        self._write(tars.header(entry))


def _mode(status: os.stat_result) -> int:
    return stat.S_IMODE(status.st_mode) & 0o777


def _plain(name: bytes, status: os.stat_result, *, size: int) -> Entry:
    return Entry(name=name, kind=tars.FILE, mode=_mode(status), size=size, mtime=int(status.st_mtime))


def _too_large(reason: str) -> Refusal:
    return Refusal("state-too-large", reason=reason)
