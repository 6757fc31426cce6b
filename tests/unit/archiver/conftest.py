"""An archiver of the real kind, and one in memory."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from agents.engine.archives import Archive
from agents.engine.fake_archive import FakeArchive
from tests.support.archiver import Archiver, archiver


@pytest.fixture(scope="module")
def place() -> Iterator[pathlib.Path]:
    made = pathlib.Path(tempfile.mkdtemp(prefix="jkt-arch-", dir="/var/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def process(place: pathlib.Path) -> Iterator[Archiver]:
    with archiver(place) as made:
        yield made


@pytest.fixture(params=["fake", "real"])
def archive(request: pytest.FixtureRequest) -> Archive:
    """The contract's two keepers."""
    if request.param == "fake":
        return FakeArchive()
    return request.getfixturevalue("process").client  # type: ignore[no-any-return]
