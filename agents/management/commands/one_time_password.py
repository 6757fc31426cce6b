"""`manage.py one_time_password USER`: a password that works once and for one hour, for root to hand over."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.operations import accounts
from agents.operations.errors import OperationError


class Command(BaseCommand):
    help = "Prints a new one-time password for an account. Its present password and sessions end."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            password = accounts.renew_one_time_password(options["username"])
        except OperationError as error:
            raise CommandError(error.message) from None
        self.stdout.write(password)
