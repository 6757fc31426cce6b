"""`manage.py exile`: end all agents of one person, or of everybody, with the service running or not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.operations.ejecting import exile_here
from agents.operations.engines import build_engines
from agents.operations.errors import OperationError
from agents.operations.exile import Scope
from agents.operations.streams import NoStreams
from agents.operations.text import visible


class Command(BaseCommand):
    help = "Ejects all agents of a person, or everybody's. Exit code 1: not all could be; projects and images stay."

    def add_arguments(self, parser: CommandParser) -> None:
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--person", metavar="NAME", help="the agents of this person")
        whose.add_argument("--all", action="store_true", help="the agents of everybody")

    def handle(self, *args: Any, **options: Any) -> None:
        scope = Scope.EVERYONE if options["all"] else Scope.PERSON
        try:
            problems = exile_here(
                build_engines(), streams=NoStreams(), scope=scope, person=options["person"] or "", actor="root"
            )
        except OperationError as error:
            raise CommandError(f"{self._whose(options)}: {error.message} {error.remedy}".strip()) from None
        if problems:
            raise CommandError("\n".join(visible(one) for one in problems))
        self.stdout.write(f"no agent of {self._whose(options)} is left")

    def _whose(self, options: dict[str, Any]) -> str:
        return "anybody" if options["all"] else visible(str(options["person"]))
