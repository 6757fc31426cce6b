"""What all rings share: test settings, a file database for each run, and the cast of people."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from typing import Any

import pytest
from django.conf import settings
from django.db.backends.sqlite3.operations import DatabaseOperations

from agents.models import User
from tests import factories

pytest_plugins = ["tests.support.fixtures"]

_SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix="jackin-tests-"))
_TRIGGERS = tuple(f"agents_auditevent_no_{what}" for what in ("update", "delete", "replace"))


def pytest_configure(config: pytest.Config) -> None:
    settings.SECRET_KEY = "only for tests"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    # A file, so that threads meet the locks that they meet in production; one per process, so that runs do not meet.
    settings.DATABASES["default"]["TEST"]["NAME"] = str(_SCRATCH / f"test-{os.getpid()}.sqlite3")
    for name in ("ENGINE", "BROKER", "GUARD", "FEED", "RUNNER", "TERMINALS", "ARCHIVER"):
        setattr(settings, f"JACKIN_{name}_SOCKET", str(_SCRATCH / f"nothing-{name.lower()}.sock"))
    _let_flush_pass_the_triggers()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(_SCRATCH, ignore_errors=True)


def _let_flush_pass_the_triggers() -> None:
    """Tests with real transactions empty the tables at their end; the audit's triggers have to stand aside for it."""
    from importlib import import_module

    create = import_module("agents.migrations.0002_append_only_audit").CREATE
    statements = [f"{part.strip()} END;" for part in create.split("END;") if part.strip()]
    flush = DatabaseOperations.execute_sql_flush

    def execute_sql_flush(self: Any, sql_list: list[str]) -> None:
        aside = [f"DROP TRIGGER IF EXISTS {name};" for name in _TRIGGERS]
        flush(self, [*aside, *sql_list, *statements])

    DatabaseOperations.execute_sql_flush = execute_sql_flush  # type: ignore[method-assign]


@pytest.fixture
def alice(db: None) -> User:
    """The owner."""
    return factories.person("alice")


@pytest.fixture
def bob(db: None) -> User:
    """A colleague."""
    return factories.person("bob")


@pytest.fixture
def carol(db: None) -> User:
    """An auditor: reads the admin pages."""
    return factories.person("carol", is_staff=True)


@pytest.fixture
def admin(db: None) -> User:
    return factories.person("root-like", is_staff=True, is_superuser=True)


@pytest.fixture
def stranger(db: None) -> User:
    """Somebody who has an account and nothing else."""
    return factories.person("stranger")
