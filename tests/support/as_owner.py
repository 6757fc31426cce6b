"""Work done as a real account without rights, as the broker does it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from agents.broker import owner
from agents.broker.archive import _told
from agents.broker.packing import Packer
from agents.broker.unpacking import Unpacker

UID = 64123  # nobody has it


def run(work: Callable[[], dict[str, Any]], *keep: int) -> dict[str, Any]:
    """What `work` returns as UID in a child, or {"refused": [code, values]}."""

    def task() -> tuple[owner.Answer, int | None]:
        return _told(work), None

    until = time.monotonic() + 100
    with owner.run_as(task, uid=UID, gid=UID, groups=[], until=until, keep=list(keep)) as (answer, _):
        return answer


def pack(root: str, file: str, *, with_logins: bool = False) -> dict[str, Any]:
    """Write the directory `root` as a tar to `file`."""
    top, out = os.open(root, os.O_PATH | os.O_DIRECTORY), os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def work() -> dict[str, Any]:
        with open(out, "wb", closefd=False) as writer:
            return Packer(top, write=lambda data: writer.write(data) and None, with_logins=with_logins).pack()

    try:
        return run(work, top, out)
    finally:
        os.close(top)
        os.close(out)


def unpack(file: str, root: str, *, with_logins: bool = False) -> dict[str, Any]:
    """Read the tar `file` into the directory `root`."""
    top, source = os.open(root, os.O_PATH | os.O_DIRECTORY), os.open(file, os.O_RDONLY)

    def work() -> dict[str, Any]:
        with open(source, "rb", closefd=False) as reader:
            return Unpacker(top, read=reader.read, with_logins=with_logins).unpack()

    try:
        return run(work, top, source)
    finally:
        os.close(top)
        os.close(source)
