"""The directories that survive agents: one for each state, below its owner's."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from agents.broker.accounts import Identity
from agents.broker.config import Config
from agents.broker.protocol import Refusal


def path(config: Config, *, uid: int, key: str) -> Path:
    """Where the state `key` of the account `uid` is."""
    return config.states / str(uid) / key


@contextlib.contextmanager
def opened(config: Config, identity: Identity, key: str) -> Iterator[int]:
    """A descriptor (O_PATH) of the state's directory, which belongs to its owner. Raises Refusal `no-state`."""
    try:
        fd = os.open(path(config, uid=identity.uid, key=key), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise Refusal("no-state", account=identity.account) from None
    try:
        found = os.fstat(fd)
        if found.st_uid != identity.uid or not stat.S_ISDIR(found.st_mode):
            raise Refusal("no-state", account=identity.account, state=key)
        yield fd
    finally:
        os.close(fd)
