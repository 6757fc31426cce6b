"""Reading a tar into a new, empty directory; runs in a child that has dropped to the directory's owner."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from agents.broker import logins, syscalls, tars
from agents.broker.tars import BadTar, Entry, Reader

_BENEATH = (
    syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS | syscalls.RESOLVE_NO_XDEV
)
_PLACE = os.O_PATH | os.O_DIRECTORY
_LATEST = 2**33  # seconds; later times are somebody's joke, or the year 2242


class Unpacker:
    """Makes below `root` what `read` says, and nothing elsewhere: parents are opened beneath it, through no link.

    Every entry is made anew; none is ever overwritten. Raises BadTar, OSError.
    """

    def __init__(self, root: int, *, read: Callable[[int], bytes], with_logins: bool) -> None:
        self._root = root
        self._reader = Reader(read)
        self._with_logins = with_logins
        self._logins = 0
        self._left_out: set[bytes] = set()
        self._directories: list[tuple[bytes, int, int]] = []
        self._place: tuple[bytes, int] = (b"", os.dup(root))

    def unpack(self) -> dict[str, Any]:
        """Make everything; returns the numbers."""
        try:
            for entry in self._reader:
                self._take(entry)
            self._settle_directories()
        finally:
            os.close(self._place[1])
        return {"entries": self._reader.entries, "bytes": self._reader.bytes, "logins_left_out": self._logins}

    def _take(self, entry: Entry) -> None:
        kind = "" if self._with_logins else logins.kind(entry.name)
        if kind == "leave" or (entry.kind == tars.HARD_LINK and self._is_left_out(entry)):
            self._logins += 1
            self._left_out.add(entry.name)
            return
        parent, base = self._parent(entry.name)
        try:
            if entry.kind == tars.DIRECTORY:
                os.mkdir(base, 0o700, dir_fd=parent)
                self._directories.append((entry.name, entry.mode, entry.mtime))
            elif entry.kind == tars.SYMLINK:
                os.symlink(entry.link, base, dir_fd=parent)
            elif entry.kind == tars.HARD_LINK:
                self._link(entry, parent, base)
            elif kind == "scrub":
                self._configuration(entry, parent, base)
            else:
                self._file(entry, parent, base, self._reader.content)
        except FileExistsError:
            raise BadTar("it holds the same name twice") from None

    def _is_left_out(self, entry: Entry) -> bool:
        return entry.link in self._left_out or (not self._with_logins and logins.kind(entry.link) != "")

    def _parent(self, name: bytes) -> tuple[int, bytes]:
        """The directory that holds `name`, opened beneath the root."""
        path, _, base = name.rpartition(b"/")
        if path != self._place[0]:
            fd = self._opened(path)
            os.close(self._place[1])
            self._place = (path, fd)
        return self._place[1], base

    def _opened(self, path: bytes, flags: int = _PLACE) -> int:
        try:
            return syscalls.openat2(os.fsdecode(path or b"."), at=self._root, flags=flags, resolve=_BENEATH)
        except OSError as error:
            raise BadTar(f"an entry lies in no directory of its own ({error.strerror})") from None

    def _file(self, entry: Entry, parent: int, base: bytes, content: Callable[[int], bytes]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(base, flags, 0o600, dir_fd=parent)
        try:
            while piece := content(tars.PIECE):
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            os.utime(fd, (min(entry.mtime, _LATEST),) * 2)
            os.fchmod(fd, entry.mode & 0o777)
        finally:
            os.close(fd)

    def _configuration(self, entry: Entry, parent: int, base: bytes) -> None:
        content = b""
        while piece := self._reader.content(tars.PIECE):
            content = content + piece if len(content) <= logins.MOST_CONFIGURATION else content
        kept = logins.scrubbed(content) if len(content) <= logins.MOST_CONFIGURATION else None
        if kept != content:
            self._logins += 1
        if kept is None:
            self._left_out.add(entry.name)
            return
        pieces = iter([kept] if kept else [])
        self._file(entry, parent, base, lambda _most: next(pieces, b""))

    def _link(self, entry: Entry, parent: int, base: bytes) -> None:
        path, _, other = entry.link.rpartition(b"/")
        source = self._opened(path)
        try:
            if not stat.S_ISREG(os.stat(other, dir_fd=source, follow_symlinks=False).st_mode):
                raise BadTar("a hard link in it leads to something else than a file")
            os.link(other, base, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise BadTar("a hard link in it leads nowhere") from None
        finally:
            os.close(source)

    def _settle_directories(self) -> None:
        """Modes and times at the end, the deepest first: until then each has to be entered and filled."""
        for name, mode, mtime in reversed(self._directories):
            fd = self._opened(name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.utime(fd, (min(mtime, _LATEST),) * 2)
                os.fchmod(fd, mode & 0o777)
            finally:
                os.close(fd)
