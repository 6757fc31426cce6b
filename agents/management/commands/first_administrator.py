"""`manage.py first_administrator NAME`: with a one-time password from standard input; prints created or exists."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.operations import accounts
from agents.operations.errors import OperationError


class Command(BaseCommand):
    help = "Makes the first administrator, unless there is one. The password is read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        password = sys.stdin.readline(512).rstrip("\n")
        if len(password) < 16:
            raise CommandError("The one-time password on standard input needs at least 16 characters.")
        try:
            created = accounts.first_administrator(options["username"], password=password)
        except OperationError as error:
            raise CommandError(error.message) from None
        self.stdout.write("created" if created else "exists")
