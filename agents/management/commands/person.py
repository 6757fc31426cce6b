"""`manage.py person add NAME`: one more web account, for root."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.operations import accounts
from agents.operations.errors import OperationError


class Command(BaseCommand):
    help = "Adds a web account and prints its one-time password."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        add = actions.add_parser("add", help="add an account")
        add.add_argument("username")
        add.add_argument("--insecure-http", action="store_true", help="accept several people over plain HTTP")

    def handle(self, *args: Any, **options: Any) -> None:
        accepted = options["insecure_http"] or settings.JACKIN_INSECURE_HTTP
        try:
            password = accounts.add_person(options["username"], insecure_http=accepted)
        except OperationError as error:
            raise CommandError(f"{error.message} {error.remedy}".strip()) from None
        self.stdout.write(password)
