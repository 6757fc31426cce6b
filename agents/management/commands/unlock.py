"""`manage.py unlock USER`: forget the failed logins of one account, for root."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.operations import accounts
from agents.operations.errors import OperationError


class Command(BaseCommand):
    help = "Lets an account log in again at once after too many failures."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            forgotten = accounts.unlock(options["username"])
        except OperationError as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{options['username']} may try again ({forgotten} records forgotten)")
