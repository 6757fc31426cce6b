"""The contract of the archive, which keeps snapshots; the archiver's client and the in-memory fake both keep it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

Manifest = Mapping[str, Any]
Told = Callable[[int], None]
T = TypeVar("T")


class Draft(Protocol):
    """A snapshot in the making: filled once, then kept once, or it never was."""

    def fill(self, source: Callable[[int], T]) -> T:
        """Call `source` with a descriptor to write a tar to; returns what it returns when all has arrived.

        `source` runs in a thread of its own; the descriptor is closed for it. Raises what `source` raises,
        ArchiveRefused, ArchiveUnreachable, Cancelled.
        """

    def keep(self, described: Manifest) -> Manifest:
        """Have it stored, read back, compared and named; returns the manifest with `size` and `sha256`.

        `described` needs `entries` and `bytes`, as they were read. Raises ArchiveRefused, ArchiveUnreachable.
        """


class Archive(Protocol):
    """Where snapshots are kept, by key (32 hex digits). Every method blocks.

    All raise ArchiveUnreachable when nobody answers, ArchiveRefused with a code: `missing`, `damaged`, `disk-full`,
    `too-large`, `exists`.
    """

    def draft(
        self, key: str, *, progress: Told, cancelled: Callable[[], bool]
    ) -> contextlib.AbstractContextManager[Draft]:
        """A new snapshot; without `keep` nothing of it is left at the end. `progress` gets the bytes so far."""

    def give(self, key: str, sink: Callable[[int], T], *, progress: Told, cancelled: Callable[[], bool]) -> T:
        """Verify it, then call `sink` in a thread with a descriptor to read its tar from; returns what it returns."""

    def verify(self, key: str, *, cancelled: Callable[[], bool]) -> Manifest:
        """Read it as a whole and compare; returns its manifest."""

    def manifest(self, key: str) -> Manifest:
        """What was written down with it."""

    def all_keys(self) -> list[str]:
        """All that are kept."""

    def remove(self, key: str) -> bool:
        """Remove it; whether it was there. Idempotent."""
