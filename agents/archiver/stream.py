"""Compressing a tar from a pipe, and giving it back; each way its form is looked at and its bytes are counted."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import select
from collections.abc import Callable
from typing import BinaryIO

import zstandard

from agents.broker.tars import MOST_TAR, PIECE, BadTar, Reader

LEVEL = 3
SPARE = 512 * 1024**2  # bytes of the file system that stay free
LOOK_EVERY = 32 * 1024**2  # compressed bytes between two looks at the file system


class Problem(Exception):
    """Why the work cannot be done: a code, and a whole sentence for the operator."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """`size` and `sha256` are the compressed file's; `tar_size` is that of what went in."""

    size: int
    sha256: str
    tar_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
    """What was found by reading a file back."""

    size: int
    sha256: str
    entries: int
    bytes: int


def write(source: int, target: BinaryIO, *, received: Callable[[int], None], hangup: int) -> Written:
    """Compress what the pipe `source` brings into `target`, until its end. Raises Problem, OSError."""
    digest = hashlib.sha256()
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    came = size = 0
    looked = -LOOK_EVERY
    while True:
        wait(source, writing=False, hangup=hangup)
        data = os.read(source, PIECE)
        came += len(data)
        if came > MOST_TAR:
            raise Problem("too-large", f"A snapshot may have at most {MOST_TAR >> 30} GiB before it is compressed.")
        piece = compressor.compress(data) if data else compressor.flush()
        if size - looked >= LOOK_EVERY:
            check_room(target.fileno())
            looked = size
        target.write(piece)
        digest.update(piece)
        size += len(piece)
        if not data:
            return Written(size=size, sha256=digest.hexdigest(), tar_size=came)
        received(came)


def check_room(fd: int) -> None:
    """Raises Problem when the file system would be full."""
    found = os.fstatvfs(fd)
    if found.f_bavail * found.f_frsize < SPARE:
        message = f"The file system of the snapshots has less than {SPARE >> 20} MiB free."
        raise Problem("disk-full", message)


def look(source: BinaryIO, *, sink: Callable[[bytes], None] = lambda data: None) -> Looked:
    """Read a compressed file to its end: it has to be one whole tar. `sink` gets the tar. Raises Problem."""
    counted = _Counted(source)
    # Read in small pieces: a few bytes of the file may be gigabytes of zeros.
    plain = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(
        counted,  # type: ignore[arg-type]
        read_across_frames=False,
    )
    waiting = memoryview(b"")

    def read(most: int) -> bytes:
        nonlocal waiting
        if not waiting:
            piece = plain.read(PIECE)
            sink(piece)
            waiting = memoryview(piece)
        taken, waiting = waiting[:most], waiting[most:]
        return bytes(taken)

    reader = Reader(read)
    try:
        for _ in reader:
            pass
    except BadTar as error:
        raise Problem("damaged", f"The snapshot is damaged: {error}.") from error
    except zstandard.ZstdError as error:
        raise Problem("damaged", "The snapshot is damaged: it cannot be decompressed.") from error
    while counted.read(PIECE):
        pass  # for the sum: what follows the frame is not what was written down
    return Looked(size=counted.size, sha256=counted.digest.hexdigest(), entries=reader.entries, bytes=reader.bytes)


class _Counted(io.RawIOBase):
    """A file that is hashed and measured as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, most: int = -1) -> bytes:
        data = self._file.read(most)
        self.digest.update(data)
        self.size += len(data)
        return data


def hung_up(client: int) -> bool:
    """Whether the client has closed its side, or speaks out of turn."""
    poll = select.poll()
    poll.register(client, select.POLLIN)
    return bool(poll.poll(0))


def wait(fd: int, *, writing: bool, hangup: int) -> None:
    """Until the pipe `fd` is ready. Raises BrokenPipeError when the client at `hangup` goes away, or speaks."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT if writing else select.POLLIN)
    poll.register(hangup, select.POLLIN)
    if any(ready == hangup for ready, _ in poll.poll()):
        raise BrokenPipeError("the client went away")
