"""`manage.py mirror_links`: copy the broker's account links into the database, for the pages to show."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.engine.errors import EngineError
from agents.operations import accounts, links
from agents.operations.engines import build_engines
from agents.operations.text import visible


class Command(BaseCommand):
    help = "Mirrors the broker's account links in the database; the runner does the same each minute."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            engines = build_engines()
            changed = links.follow(engines)
            linked = engines.broker.links()
        except EngineError as error:
            raise CommandError(f"{error.message} {error.remedy}".strip()) from None
        for name in accounts.without_account(linked):
            self.stdout.write(f"{visible(name)} is linked, but there is no web account of that name (yet)")
        self.stdout.write(f"{len(linked)} linked, {changed} changed")
