"""An archive in memory that keeps the contract of agents.engine.archives.Archive, for tests without an archiver."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from agents.engine.archives import Archive, Draft, Manifest, Told
from agents.engine.errors import ArchiveRefused, Cancelled
from agents.engine.hooks import Hooks

T = TypeVar("T")


class FakeArchive(Archive):
    """`kept` is what there is: key → manifest and content. `hooks` makes `fill`, `keep`, `give` … fail."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.kept: dict[str, tuple[Manifest, bytes]] = {}

    @contextlib.contextmanager
    def draft(self, key: str, *, progress: Told, cancelled: Callable[[], bool]) -> Iterator[Draft]:
        self.hooks.enter("draft")
        if key in self.kept:
            raise ArchiveRefused("There is such a snapshot already.", code="exists")
        yield _Draft(self, key, progress=progress, cancelled=cancelled)

    def give(self, key: str, sink: Callable[[int], T], *, progress: Told, cancelled: Callable[[], bool]) -> T:
        self.hooks.enter("give")
        _, content = self._found(key)
        _look(cancelled)
        reader, writer = os.pipe()

        def pour() -> None:
            with contextlib.suppress(BrokenPipeError), open(writer, "wb") as file:
                file.write(content)

        pouring = threading.Thread(target=pour)
        pouring.start()
        try:
            answer = sink(reader)
        finally:
            os.close(reader)
            pouring.join()
        progress(len(content))
        return answer

    def verify(self, key: str, *, cancelled: Callable[[], bool]) -> Manifest:
        self.hooks.enter("verify")
        _look(cancelled)
        return self._found(key)[0]

    def manifest(self, key: str) -> Manifest:
        self.hooks.enter("manifest")
        return self._found(key)[0]

    def all_keys(self) -> list[str]:
        self.hooks.enter("all_keys")
        return sorted(self.kept)

    def remove(self, key: str) -> bool:
        self.hooks.enter("remove")
        return self.kept.pop(key, None) is not None

    def _found(self, key: str) -> tuple[Manifest, bytes]:
        if key not in self.kept:
            raise ArchiveRefused("There is no such snapshot.", code="missing")
        return self.kept[key]


class _Draft(Draft):
    def __init__(self, archive: FakeArchive, key: str, *, progress: Told, cancelled: Callable[[], bool]) -> None:
        self._archive = archive
        self._key = key
        self._progress = progress
        self._cancelled = cancelled
        self._content = b""

    def fill(self, source: Callable[[int], T]) -> T:
        self._archive.hooks.enter("fill")
        _look(self._cancelled)
        reader, writer = os.pipe()
        pieces: list[bytes] = []

        def drain() -> None:
            with open(reader, "rb") as file:
                pieces.append(file.read())

        draining = threading.Thread(target=drain)
        draining.start()
        try:
            answer = source(writer)
        finally:
            os.close(writer)
            draining.join()
        self._content = pieces[0]
        self._progress(len(self._content))
        return answer

    def keep(self, described: Manifest) -> Manifest:
        self._archive.hooks.enter("keep")
        _look(self._cancelled)
        measured = {"size": len(self._content), "sha256": hashlib.sha256(self._content).hexdigest()}
        self._archive.kept[self._key] = ({**described, **measured}, self._content)
        return self._archive.kept[self._key][0]


def _look(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("It was stopped on request.")
