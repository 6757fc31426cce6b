"""The directory of the snapshots: one folder for each, with the compressed tar and its manifest."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agents.archiver import stream
from agents.archiver.stream import Problem

KEY = re.compile(r"[0-9a-f]{32}")
VERSION = 1
CONTENT, MANIFEST = "state.tar.zst", "manifest.json"
MOST_MANIFEST = 16 * 1024
DRAFT, GONE = ".new-", ".gone-"

Manifest = dict[str, Any]


class Store:
    """Whoever sees a folder under its key sees it whole: it is made and removed under other names."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def clean_up(self) -> None:
        """At the start: remove what a crash left half made or half removed."""
        for found in self._place.iterdir():
            if found.name.startswith((DRAFT, GONE)):
                shutil.rmtree(found, ignore_errors=True)

    @contextlib.contextmanager
    def draft(self, key: str) -> Iterator[Draft]:
        """A snapshot in the making; it is thrown away unless it was kept. Raises Problem `exists`."""
        if (self._place / key).exists():
            raise Problem("exists", "There is such a snapshot already.")
        made = self._place / f"{DRAFT}{key}-{secrets.token_hex(4)}"
        with _clear_errors():
            made.mkdir(mode=0o700)
        try:
            yield Draft(made, self._place / key)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def keys(self, *, after: str, most: int) -> tuple[list[str], bool]:
        """Names in order after `after`, at most `most`, and whether there are more."""
        found = sorted(name for name in os.listdir(self._place) if KEY.fullmatch(name) and name > after)
        return found[:most], len(found) > most

    def manifest(self, key: str) -> Manifest:
        """What was written down with the snapshot. Raises Problem `missing`, `damaged`."""
        try:
            with (self._place / key / MANIFEST).open("rb") as file:
                found = json.loads(file.read(MOST_MANIFEST))
        except FileNotFoundError:
            raise Problem("missing", "There is no such snapshot.") from None
        except (ValueError, RecursionError):
            raise Problem("damaged", "The snapshot is damaged: its manifest cannot be read.") from None
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise Problem("damaged", "The snapshot is damaged, or of another version of this service.")
        return found

    def verify(self, key: str) -> Manifest:
        """The manifest, after the content was compared with it. Raises Problem."""
        manifest = self.manifest(key)
        with self._opened(key) as file:
            compare(manifest, stream.look(file))
        return manifest

    def give(self, key: str, target: int, *, sent: Callable[[int], None], hangup: int) -> Manifest:
        """Write the tar into the pipe `target`, of a file that was compared before its first byte goes out."""
        manifest = self.manifest(key)
        gone = 0

        def sink(data: bytes) -> None:
            nonlocal gone
            view = memoryview(data)
            while view:
                stream.wait(target, writing=True, hangup=hangup)
                view = view[os.write(target, view[:4096]) :]  # what a pipe that is ready takes without blocking
            gone += len(data)
            sent(gone)

        with self._opened(key) as file:
            compare(manifest, stream.look(file))
            file.seek(0)
            compare(manifest, stream.look(file, sink=sink))
        return manifest

    def remove(self, key: str) -> bool:
        """Remove it; whether it was there. A crash in between is tidied at the next start."""
        gone = self._place / f"{GONE}{key}-{secrets.token_hex(4)}"
        try:
            (self._place / key).rename(gone)
        except FileNotFoundError:
            return False
        _sync(self._place)
        shutil.rmtree(gone)
        return True

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[Any]:
        try:
            with (self._place / key / CONTENT).open("rb") as file:
                yield file
        except FileNotFoundError:
            raise Problem("damaged", "The snapshot is damaged: its content is gone.") from None


class Draft:
    """A folder that nobody finds yet."""

    def __init__(self, place: Path, target: Path) -> None:
        self._place = place
        self._target = target
        self._written: stream.Written | None = None

    def fill(self, source: int, *, received: Callable[[int], None], hangup: int) -> None:
        """Compress what the pipe brings until its end, and have it on the disk. Raises Problem."""
        with _clear_errors(), (self._place / CONTENT).open("xb") as file:
            self._written = stream.write(source, file, received=received, hangup=hangup)
            file.flush()
            os.fsync(file.fileno())

    def keep(self, described: Manifest, *, wanted: Callable[[], None]) -> Manifest:
        """Read it back, write the manifest, give it its name. Raises Problem, and what `wanted` raises, which is asked
        last: then there is nothing."""
        written = self._written
        if written is None:
            raise Problem("internal", "There is nothing to keep.")
        with (self._place / CONTENT).open("rb") as file:
            looked = stream.look(file)
        measured = {"version": VERSION, "size": written.size, "sha256": written.sha256, "tar_size": written.tar_size}
        manifest = described | measured
        compare(manifest, looked)
        body = json.dumps(manifest, indent=1).encode()
        if len(body) > MOST_MANIFEST:
            raise Problem("too-large", "The manifest is too long.")
        with _clear_errors():
            with (self._place / MANIFEST).open("xb") as out:
                out.write(body)
                out.flush()
                os.fsync(out.fileno())
            _sync(self._place)
            wanted()
            os.rename(self._place, self._target)
            _sync(self._target.parent)
        return manifest


def compare(manifest: Manifest, looked: stream.Looked) -> None:
    """Raises Problem `damaged` unless what was read is what was written down."""
    found = {"size": looked.size, "sha256": looked.sha256, "entries": looked.entries, "bytes": looked.bytes}
    for name, value in found.items():
        if manifest.get(name) != value:
            raise Problem("damaged", f"The snapshot is damaged: {name} is not what was written down.")


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem("disk-full", "The file system of the snapshots is full.") from error
        raise


def _sync(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
