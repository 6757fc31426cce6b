"""A file system whose server never answers: whoever touches it waits, and cannot even be killed once it was asked."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import select
import stat
import time
from collections.abc import Iterator

from tests.support.machine import run

CLONE_NEWNS = 0x20000


class Hanging:
    """The descriptor of the server side of a FUSE mount."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def take(self, count: int, *, seconds: float = 10) -> None:
        """Read `count` requests, and never answer: from now on no signal ends those who wait."""
        until = time.monotonic() + seconds
        for number in range(count):
            ready, _, _ = select.select([self._fd], [], [], max(0, until - time.monotonic()))
            assert ready, f"{number} requests came, not {count}"
            os.read(self._fd, 2**20)

    def greet(self) -> None:
        """Answer the kernel's first request, INIT."""
        first = os.read(self._fd, 2**20)
        flags = 1 << 18  # several may look into one directory at the same time
        body = b"".join(n.to_bytes(4, "little") for n in (7, 31, 0, flags)) + bytes(4) + (65536).to_bytes(4, "little")
        body = body.ljust(64, b"\0")
        os.write(self._fd, (16 + len(body)).to_bytes(4, "little") + bytes(4) + first[8:16] + body)


@contextlib.contextmanager
def hanging(point: pathlib.Path, *, pid: int | None = None) -> Iterator[Hanging]:
    """Mounted at `point`, a directory or a file, in our mount namespace or in that of `pid`; ends all who wait."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    kind = stat.S_IFMT(point.stat().st_mode)
    options = f"fd={fd},rootmode={kind:o},user_id=0,group_id=0,allow_other"
    namespace = os.open(f"/proc/{pid or 'self'}/ns/mnt", os.O_RDONLY)
    try:
        _in_child(namespace, str(point), options)
        made = Hanging(fd)
        made.greet()
        yield made
    finally:
        os.close(fd)  # everybody who waits gets an error
        where = [] if pid is None else ["nsenter", f"--mount=/proc/self/fd/{namespace}"]
        os.set_inheritable(namespace, True)
        run(*where, "umount", "--lazy", str(point), check=False, fds=[namespace])
        os.close(namespace)


def _in_child(namespace: int, point: str, options: str) -> None:
    """Mount in another namespace: only a process of a single thread can go there."""
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        failed = libc.setns(namespace, CLONE_NEWNS)
        failed = failed or libc.mount(b"jkt-hang", point.encode(), b"fuse", 0, options.encode())
        os._exit(1 if failed else 0)
    assert os.waitpid(child, 0)[1] == 0, f"{point} could not be mounted"
