"""How large a state is and whether logins are inside, looked at as its owner and for a bounded time."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from typing import Any

from agents.broker import deleting, owner, states, syscalls
from agents.broker.config import Config
from agents.broker.protocol import Refusal

MOST_CONFIGURATION = 8 * 1024 * 1024  # bytes of a .claude.json that is looked into
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
LOGIN_FILES = (".claude/.credentials.json", ".config/gh/hosts.yml")
LOGIN_KEYS = ("oauthAccount", "primaryApiKey")  # of .claude.json


def measure(config: Config, key: str, *, until: float) -> dict[str, Any]:
    """size (bytes on disk), entries, logins, whole (False: there is more than could be counted in time).

    Nothing in the state is changed. Raises Refusal `no-state`.
    """
    uid = states.uid_of(config, key)
    if uid is None:
        raise Refusal("no-state", state=key)
    with states.opened_of(config, uid, key) as fd:

        def task() -> tuple[owner.Answer, int | None]:
            size, entries, whole = count(fd, until=until - 1.0)
            return {"size": size, "entries": entries, "whole": whole, "logins": has_logins(fd)}, None

        try:
            with owner.run_as(task, uid=uid, gid=deleting.NO_GROUP, groups=(), until=until, keep=[fd]) as (answer, _):
                return answer
        except owner.Hangs:
            raise Refusal("timeout", path="The state", seconds=int(owner.SECONDS_TO_LOOK)) from None


def count(top: int, *, until: float) -> tuple[int, int, bool]:
    """Bytes and entries below the directory `top`; of a file with several names each counts."""
    size, entries, whole = 0, 0, True
    stack: list[tuple[int, list[str]]] = []
    try:
        whole &= _enter(top, ".", stack)
        while stack:
            fd, names = stack[-1]
            if not names:
                os.close(stack.pop()[0])
                continue
            if time.monotonic() > until:
                return size, entries, False
            name = names.pop()
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                size += status.st_blocks * 512
                entries += 1
                if stat.S_ISDIR(status.st_mode):
                    whole &= _enter(fd, name, stack)
    finally:
        for fd, _ in stack:
            os.close(fd)
    return size, entries, whole


def _enter(parent: int, name: str, stack: list[tuple[int, list[str]]]) -> bool:
    """Go down into a directory; False where it cannot be read (closed, or deeper than descriptors reach)."""
    resolve = states.BENEATH | syscalls.RESOLVE_NO_XDEV
    try:
        fd = syscalls.openat2(name, at=parent, flags=os.O_RDONLY | os.O_DIRECTORY, resolve=resolve)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        stack.append((fd, os.listdir(fd)))
    except OSError:
        os.close(fd)
        return False
    return True


def has_logins(top: int) -> bool:
    """Whether a login of Claude Code or of gh lies in the state. What cannot be told counts as one."""
    return any(_content(top, name) != b"" for name in LOGIN_FILES) or _logged_in(_content(top, ".claude/.claude.json"))


def _logged_in(content: bytes | None) -> bool:
    if content == b"":
        return False
    try:
        found = json.loads(content or b"?")
    except (ValueError, RecursionError):
        return True
    return isinstance(found, dict) and any(found.get(key) for key in LOGIN_KEYS)


def _content(top: int, name: str) -> bytes | None:
    """What a plain file holds; empty where there is none, None where it cannot be told."""
    try:
        fd = syscalls.openat2(name, at=top, flags=FLAGS, resolve=states.BENEATH | syscalls.RESOLVE_NO_XDEV)
    except FileNotFoundError:
        return b""
    except OSError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        content = file.read(MOST_CONFIGURATION + 1)
    return content if len(content) <= MOST_CONFIGURATION else None
