"""The one form of tar that snapshots have: GNU's, with plain files, directories, symbolic and hard links only."""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Callable, Iterator

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
MOST_ENTRIES = 250_000
MOST_DEPTH = 100
MOST_BYTES = 8 * 1024**3  # of all files together
MOST_NAME = 4096
MOST_TAR = MOST_BYTES + MOST_ENTRIES * (6 * BLOCK + 2 * MOST_NAME)  # headers, long names and padding
PIECE = 256 * 1024

FILE, DIRECTORY, SYMLINK, HARD_LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
_LONG = {tarfile.GNUTYPE_LONGNAME: "name", tarfile.GNUTYPE_LONGLINK: "link"}
_WHAT = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class BadTar(Exception):
    """The stream is not what a snapshot holds; the text says why, as the end of a sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One member. `name` is relative, without empty, `.` or `..` parts; `mode` has permission bits only."""

    name: bytes
    kind: bytes
    mode: int = 0o600
    size: int = 0
    mtime: int = 0
    link: bytes = b""


def header(entry: Entry) -> bytes:
    """The blocks before the entry's content."""
    info = tarfile.TarInfo(_text(entry.name))
    info.type, info.mode, info.size = entry.kind, entry.mode & 0o777, entry.size
    info.mtime, info.linkname = max(0, entry.mtime), _text(entry.link)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> int:
    """How many bytes follow a content of `size` bytes."""
    return -size % BLOCK


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


class Reader:
    """Reads entries from `read(most)`, strictly; whoever takes an entry takes its content before the next."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._left = 0  # of the current content
        self._padding = 0
        self.entries = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[Entry]:
        """The entries up to the tar's end, after which nothing but zeros may come. Raises BadTar."""
        long: dict[str, bytes] = {}
        while True:
            block = self._exactly(BLOCK)
            if block == bytes(BLOCK):
                return self._end(long)
            info = _parsed(block)
            if info.kind in _LONG:
                long[_LONG[info.kind]] = self._long(info)
                continue
            entry = _checked(dataclasses.replace(info, **long))  # type: ignore[arg-type]
            long = {}
            self._count(entry)
            self._left, self._padding = entry.size, padding(entry.size)
            yield entry
            while self.content(PIECE):
                pass
            self._exactly(self._padding)

    def content(self, most: int) -> bytes:
        """The next piece of the current entry's content; empty at its end."""
        if not self._left:
            return b""
        piece = self._read(min(most, self._left))
        if not piece:
            raise BadTar("it ends in the middle of a file")
        self._left -= len(piece)
        return piece

    def _count(self, entry: Entry) -> None:
        self.entries += 1
        self.bytes += entry.size
        if self.entries > MOST_ENTRIES:
            raise BadTar(f"it has more than {MOST_ENTRIES} entries")
        if self.bytes > MOST_BYTES:
            raise BadTar(f"its files have more than {MOST_BYTES >> 30} GiB")

    def _long(self, info: Entry) -> bytes:
        if not 1 < info.size <= MOST_NAME + 1:
            raise BadTar("a name in it is too long")
        text = self._exactly(info.size)
        self._exactly(padding(info.size))
        if text[-1:] != b"\0":
            raise BadTar("a long name in it has no end")
        return text[:-1]

    def _end(self, long: dict[str, bytes]) -> None:
        if long or self._exactly(BLOCK) != bytes(BLOCK):
            raise BadTar("its end is damaged")
        while piece := self._read(PIECE):
            if piece.strip(b"\0"):
                raise BadTar("something follows its end")

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._read(count - len(data))
            if not piece:
                raise BadTar("it ends too early")
            data += piece
        return bytes(data)


def _parsed(block: bytes) -> Entry:
    kind = block[156:157]
    if block[257:265] != tarfile.GNU_MAGIC:
        raise BadTar("it is no GNU tar")
    if _number(block[148:156]) != 256 + sum(block[:148]) + sum(block[156:]):
        raise BadTar("a checksum in it is wrong")
    if kind not in {FILE, DIRECTORY, SYMLINK, HARD_LINK, *_LONG}:
        raise BadTar(f"it holds {_WHAT.get(kind, 'an unknown kind of entry')}")
    mode = _number(block[100:108])
    if mode & ~0o777:
        raise BadTar("an entry has set-id bits or an impossible mode")
    size = _number(block[124:136])
    if kind in {DIRECTORY, SYMLINK, HARD_LINK} and size:
        raise BadTar("a link or a directory has content")
    name = block[:100].split(b"\0", 1)[0]
    link = block[157:257].split(b"\0", 1)[0]
    return Entry(name=name, kind=kind, mode=mode, size=size, mtime=_number(block[136:148]), link=link)


def _number(field: bytes) -> int:
    if field[0] == 0o200:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits.isdigit() or len(digits) > len(field):
        raise BadTar("a number in it is none")
    try:
        return int(digits, 8)
    except ValueError:
        raise BadTar("a number in it is none") from None


def _checked(entry: Entry) -> Entry:
    name = entry.name.removesuffix(b"/") if entry.kind == DIRECTORY else entry.name
    check_name(name)
    if entry.kind == HARD_LINK:
        check_name(entry.link)
    if entry.kind == SYMLINK and (not entry.link or b"\0" in entry.link or len(entry.link) >= MOST_NAME):
        raise BadTar("a symbolic link in it has no target, or an impossible one")
    return dataclasses.replace(entry, name=name)


def check_name(name: bytes) -> None:
    """Raises BadTar for a name that is absolute, climbs, or cannot be one."""
    parts = name.split(b"/")
    if name.startswith(b"/"):
        raise BadTar("a name in it is absolute")
    if any(part in (b"", b".", b"..") for part in parts):
        raise BadTar("a name in it has an empty part, “.” or “..”")
    if b"\0" in name or len(name) >= MOST_NAME or any(len(part) > 255 for part in parts):
        raise BadTar("a name in it is too long")
    if len(parts) > MOST_DEPTH:
        raise BadTar(f"it is deeper than {MOST_DEPTH} directories")
