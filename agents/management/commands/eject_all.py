"""`manage.py eject_all`: end every agent; for `serve --eject`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.operations.ejecting import eject_all
from agents.operations.engines import build_engines
from agents.operations.streams import NoStreams
from agents.operations.text import visible


class Command(BaseCommand):
    help = "Stops and removes every agent of this instance. Projects and images stay."

    def handle(self, *args: Any, **options: Any) -> None:
        if problems := eject_all(build_engines(), streams=NoStreams()):
            raise CommandError("\n".join(visible(one) for one in problems))
        self.stdout.write("no agent is left")
