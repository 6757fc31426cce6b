"""`manage.py images`: build what launches need, so that the first one does not have to."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.engine.errors import EngineError
from agents.operations.engines import build_engines
from agents.operations.errors import OperationError
from agents.operations.images import prepare_images
from agents.operations.text import visible


class Command(BaseCommand):
    help = "Builds the images of all enabled classes and their runtimes; what is up to date is left alone."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made = prepare_images(build_engines(), log=lambda line: self.stdout.write(visible(line)))
            for slug, runtime, tag in made:
                self.stdout.write(visible(f"{slug} {runtime}: {tag}"))
        except (EngineError, OperationError) as error:
            raise CommandError(f"{error.message} {error.remedy}".strip()) from None
