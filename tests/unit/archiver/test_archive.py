"""The contract of the archive, kept by the real one and by the one in memory."""

from __future__ import annotations

import os

import pytest

from agents.engine.archives import Archive
from agents.engine.errors import ArchiveRefused, BrokerRefused, Cancelled
from tests.unit.archiver.kit import TAR, kept, key, pour, taken, verified


def test_what_was_stored_comes_back(archive: Archive) -> None:
    name = key()
    kept(archive, name)
    assert taken(archive, name) == TAR
    manifest = verified(archive, name)
    assert (manifest["state"], len(str(manifest["sha256"]))) == ("s", 64)
    assert archive.manifest(name) == manifest
    assert name in archive.all_keys()


def test_it_is_removed_once(archive: Archive) -> None:
    name = key()
    kept(archive, name)
    assert archive.remove(name)
    assert not archive.remove(name)
    assert name not in archive.all_keys()
    for ask in (lambda missing: verified(archive, missing), archive.manifest, lambda missing: taken(archive, missing)):
        with pytest.raises(ArchiveRefused) as refused:
            ask(name)
        assert refused.value.code == "missing"


def test_a_key_is_used_once(archive: Archive) -> None:
    name = key()
    kept(archive, name)
    with pytest.raises(ArchiveRefused) as refused:
        kept(archive, name)
    assert refused.value.code == "exists"
    assert taken(archive, name) == TAR


def test_a_draft_that_is_not_kept_was_never_there(archive: Archive) -> None:
    name = key()
    with archive.draft(name, progress=lambda done: None, cancelled=lambda: False) as draft:
        draft.fill(pour())
    assert name not in archive.all_keys()
    kept(archive, name)


def test_what_the_source_raises_is_raised(archive: Archive) -> None:
    def fails(fd: int) -> None:
        os.write(fd, b"x" * 100)
        raise BrokerRefused("The disk is broken.", code="stream")

    name = key()
    with (
        pytest.raises(BrokerRefused, match="disk is broken"),
        archive.draft(name, progress=lambda done: None, cancelled=lambda: False) as draft,
    ):
        draft.fill(fails)
    assert name not in archive.all_keys()


def test_what_the_sink_raises_is_raised(archive: Archive) -> None:
    def fails(fd: int) -> None:
        os.read(fd, 100)
        raise BrokerRefused("The disk is full.", code="stream")

    name = key()
    kept(archive, name)
    with pytest.raises(BrokerRefused, match="disk is full"):
        archive.give(name, fails, progress=lambda done: None, cancelled=lambda: False)
    assert taken(archive, name) == TAR


def test_cancelling_leaves_nothing(archive: Archive) -> None:
    name = key()
    with (
        pytest.raises(Cancelled),
        archive.draft(name, progress=lambda done: None, cancelled=lambda: True) as draft,
    ):
        draft.fill(pour())
    assert name not in archive.all_keys()
