"""A place for tars and trees, and tars that nobody of ours would make."""

from __future__ import annotations

import io
import os
import pathlib
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import as_owner
from tests.support.as_owner import UID

Add = Callable[[tarfile.TarFile], None]


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """A directory that UID can enter, with `state`, `target` (its own) and `outside` (root's, nobody's business)."""
    import shutil
    import tempfile

    assert os.geteuid() == 0, "needs root"
    made = pathlib.Path(tempfile.mkdtemp(prefix="jkt-tar-", dir="/dev/shm"))
    made.chmod(0o755)
    for name in ("state", "target"):
        (made / name).mkdir(mode=0o700)
        os.chown(made / name, UID, UID)
    (made / "outside").mkdir(mode=0o777)
    (made / "outside").chmod(0o777)
    (made / "outside" / "file").write_text("outside")
    (made / "outside" / "file").chmod(0o666)
    yield made
    shutil.rmtree(made)


def owned(state: pathlib.Path) -> None:
    for folder, _, files in os.walk(os.fsencode(state)):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.lchown(path, UID, UID)


def packed(place: pathlib.Path, **options: bool) -> dict[str, Any]:
    owned(place / "state")
    return as_owner.pack(str(place / "state"), str(place / "tar"), **options)


def names(place: pathlib.Path) -> list[str]:
    with tarfile.open(place / "tar") as tar:
        return tar.getnames()


def hostile(place: pathlib.Path, *adds: Add) -> str:
    """What is said of a tar that was made by these; all that was made before the refusal stays in `target`."""
    with tarfile.open(place / "tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for add in adds:
            add(tar)
    return said(place)


def said(place: pathlib.Path) -> str:
    answer = as_owner.unpack(str(place / "tar"), str(place / "target"))
    return str(answer["refused"][1]["reason"]) if "refused" in answer else ""


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, content: bytes = b"x", link: str = "", mode: int = 0o644) -> Add:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return lambda tar: tar.addfile(info, io.BytesIO(content))
