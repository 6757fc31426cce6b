"""People at the pages, and a runner that answers as it is told to."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from django.test import Client

from agents.engine.types import CheckedMount, MountProblem, MountRequest
from agents.models import HostAccount, User
from agents.operations import gateway
from agents.operations.errors import Unavailable
from agents.web import context

BACKEND = "agents.operations.accounts.OneTimeAwareBackend"


@dataclasses.dataclass
class ToldRunner:
    """Stands at the gateway. `problems` are the broker's answers by source; `silent` makes it unreachable."""

    problems: dict[str, MountProblem] = dataclasses.field(default_factory=dict)
    secrets: dict[uuid.UUID, dict[str, str]] = dataclasses.field(default_factory=dict)
    woken: list[uuid.UUID | None] = dataclasses.field(default_factory=list)
    first_logins: int = 0
    silent: bool = False
    engine: bool = True

    def _answer(self) -> None:
        if self.silent:
            raise Unavailable("The runner does not answer.", remedy="Try again in a moment.")

    def wake(self, operation_id: uuid.UUID | None = None, *, secrets: Mapping[str, str] | None = None) -> None:
        self._answer()
        self.woken.append(operation_id)
        if operation_id is not None and secrets:
            self.secrets[operation_id] = dict(secrets)

    def check_mounts(self, web_user: str, mounts: Sequence[MountRequest]) -> list[CheckedMount | MountProblem]:
        self._answer()
        return [self.problems.get(one.source) or self._fine(one) for one in mounts]

    def _fine(self, one: MountRequest) -> CheckedMount:
        return CheckedMount(source=one.source, real_path=one.source, device=1, inode=2, fstype="ext4")

    def engine_status(self) -> gateway.EngineStatus:
        self._answer()
        message = "" if self.engine else "The engine's socket does not answer."
        return gateway.EngineStatus(engine=self.engine, broker=True, version="28.1", message=message)

    def first_login(self) -> None:
        self.first_logins += 1


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> ToldRunner:
    told = ToldRunner()
    for name in ("wake", "check_mounts", "engine_status", "first_login"):
        monkeypatch.setattr(gateway, name, getattr(told, name))
    context.forget_engine()
    return told


@pytest.fixture
def at_page() -> Callable[[User | None], Client]:
    """A browser of a person, or of nobody."""

    def browser(person: User | None, **options: Any) -> Client:
        client = Client(**options)
        if person is not None:
            client.force_login(person, backend=BACKEND)
        return client

    return browser


@pytest.fixture
def linked(alice: User) -> HostAccount:
    """alice's Unix account."""
    return HostAccount.objects.create(
        user=alice, account="alice", uid=1004, how="host link", linked_at="2026-01-02T03:04:05Z"
    )
