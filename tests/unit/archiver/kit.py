"""A small tar, and ways to store it and to take it back."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from agents.broker import tars
from agents.engine.archives import Archive

CONTENT = secrets.token_bytes(200_000)
TAR = tars.header(tars.Entry(name=b"f", kind=tars.FILE, size=len(CONTENT))) + CONTENT
TAR += bytes(tars.padding(len(CONTENT))) + tars.END
SAID = {"entries": 1, "bytes": len(CONTENT), "state": "s"}


def key() -> str:
    return secrets.token_hex(16)


def pour(content: bytes = TAR) -> Callable[[int], str]:
    def source(fd: int) -> str:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        return "poured"

    return source


def verified(archive: Archive, name: str) -> dict[str, object]:
    return dict(archive.verify(name, cancelled=lambda: False))


def kept(archive: Archive, name: str, *, content: bytes = TAR, said: dict[str, object] | None = None) -> None:
    with archive.draft(name, progress=lambda done: None, cancelled=lambda: False) as draft:
        assert draft.fill(pour(content)) == "poured"
        draft.keep(said or SAID)


def taken(archive: Archive, name: str) -> bytes:
    def sink(fd: int) -> bytes:
        with open(fd, "rb", closefd=False) as file:
            return file.read()

    return archive.give(name, sink, progress=lambda done: None, cancelled=lambda: False)
