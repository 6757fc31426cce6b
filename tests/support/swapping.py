"""Two names that are exchanged as fast as the kernel can, by a process of its own, which counts how often."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import pwd
import subprocess
from collections.abc import Iterator

_SWAP = """
import ctypes, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
one, other = (path.encode() for path in sys.argv[1:3])
done, count = threading.Event(), 0
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
while not done.is_set():
    if sys.argv[3] == "exchange":
        assert libc.renameat2(-100, one, -100, other, 2) == 0
    else:
        assert libc.mount(other, one, None, 0x1000, None) == 0
        time.sleep(0.001)
        assert libc.umount2(one, 2) == 0
    count += 1
    time.sleep(0.0003)
if sys.argv[3] == "exchange" and count % 2:
    libc.renameat2(-100, one, -100, other, 2)
print(count)
"""


@dataclasses.dataclass(kw_only=True)
class Swaps:
    """`count` is known when it is over."""

    count: int = 0


@contextlib.contextmanager
def swapping(
    one: pathlib.Path, other: pathlib.Path, *, how: str, by: pwd.struct_passwd | None = None
) -> Iterator[Swaps]:
    """`exchange` the names `one` and `other`, or `bind` directory `other` over `one` and off it, as `by` or root."""
    ids = {} if by is None else {"user": by.pw_uid, "group": by.pw_gid, "extra_groups": []}
    process = subprocess.Popen(  # type: ignore[call-overload]
        ["/usr/bin/python3", "-c", _SWAP, str(one), str(other), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **ids,
    )
    found = Swaps()
    try:
        yield found
    finally:
        said, _ = process.communicate(timeout=10)
        found.count = int(said)


def naive_is_fooled(
    path: pathlib.Path, secret: pathlib.Path, entry: pwd.struct_passwd, *, tries: int = 200_000
) -> bool:
    """Whether somebody who asks for the owner's rights by path, and then opens the path as root, ever gets `secret`."""
    inode = secret.stat().st_ino
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setegid(entry.pw_gid)
            for _ in range(tries):
                os.seteuid(entry.pw_uid)
                may = os.access(path, os.R_OK | os.X_OK, effective_ids=True)
                os.seteuid(0)
                with contextlib.suppress(OSError):
                    if may and os.stat(path).st_ino == inode:
                        os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0
