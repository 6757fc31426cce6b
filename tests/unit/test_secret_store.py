"""Secrets wait in memory: bounded, for a time, and never shown."""

from __future__ import annotations

import uuid

from agents.operations.secret_store import KEPT_UNUSED, MOST_LAUNCHES, SecretStore


def test_they_are_there_until_dropped() -> None:
    store, operation = SecretStore(), uuid.uuid4()
    assert store.put(operation, {"TOKEN": "hunter2"})
    assert store.get(operation) == {"TOKEN": "hunter2"}
    assert store.get(operation) == {"TOKEN": "hunter2"}
    assert "hunter2" not in repr(store)
    store.drop(operation)
    assert store.get(operation) is None


def test_nobody_replaces_those_of_another() -> None:
    store, operation = SecretStore(), uuid.uuid4()
    assert store.put(operation, {"A": "1"})
    assert not store.put(operation, {"A": "2"})
    assert store.get(operation) == {"A": "1"}


def test_number_and_time_are_bounded() -> None:
    now = [0.0]
    store = SecretStore(clock=lambda: now[0])
    first = uuid.uuid4()
    assert store.put(first, {})
    assert all(store.put(uuid.uuid4(), {}) for _ in range(MOST_LAUNCHES - 1))
    assert not store.put(uuid.uuid4(), {})
    now[0] = KEPT_UNUSED + 1
    assert store.put(uuid.uuid4(), {})
    assert store.get(first) is None
