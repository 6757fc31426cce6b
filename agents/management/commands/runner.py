"""`manage.py runner`: work on operations until told to stop."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from agents.engine.feed_client import FeedClient
from agents.operations.engines import build_engines
from agents.operations.runner import Runner, listening_socket


class Command(BaseCommand):
    help = "Runs launches and ejects, watches the engine, feeds the terminals. Started by serve."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.SECRET_KEY:
            raise CommandError("JACKIN_SECRET_KEY is not set; serve passes it to the runner.")
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        feed = FeedClient(settings.JACKIN_FEED_SOCKET)
        runner = Runner(build_engines(), listener=listening_socket(), feed=feed)
        runner.run(stop)
