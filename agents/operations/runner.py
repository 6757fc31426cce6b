"""The runner: the only process of ours with a database that reaches engine and broker."""

from __future__ import annotations

import logging
import os
import socket
import threading

from django.conf import settings

from agents.operations import leases
from agents.operations.engines import Engines
from agents.operations.runner_service import RunnerService
from agents.operations.runner_socket import SocketServer, allowed_uids
from agents.operations.secret_store import SecretStore
from agents.operations.streams import Feed, Streams
from agents.operations.watcher import Watcher
from agents.operations.workers import Workers

logger = logging.getLogger(__name__)


class Runner:
    """Workers, watcher, streams and socket, wired together."""

    def __init__(self, engines: Engines, *, listener: socket.socket, feed: Feed) -> None:
        self.secrets = SecretStore()
        self.streams = Streams(engines, feed=feed, ended=lambda: self.watcher.look())
        self.workers = Workers(engines, streams=self.streams, secrets=self.secrets, process=leases.process_name())
        self.watcher = Watcher(engines, streams=self.streams, after=self.workers.wake)
        service = RunnerService(engines, secrets=self.secrets, wake=self.workers.wake, look=self.watcher.look)
        self.server = SocketServer(listener, answer=service.answer, uids=allowed_uids())

    def start(self) -> None:
        self.streams.start()
        self.watcher.start()
        self.workers.start()
        self.server.start()
        logger.info("runner is ready")

    def stop(self) -> None:
        """Agents go on; an operation that is under way is taken up by the next runner."""
        self.server.stop()
        self.watcher.stop()
        self.workers.stop()
        self.streams.stop()
        logger.info("runner has stopped")

    def run(self, until: threading.Event) -> None:
        self.start()
        try:
            until.wait()
        finally:
            self.stop()


def listening_socket() -> socket.socket:
    """The socket that the supervisor bound; without one (a developer's shell) we bind it ourselves."""
    if inherited := os.environ.get("JACKIN_FD_RUNNER"):
        return socket.socket(fileno=int(inherited))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = settings.JACKIN_RUNNER_SOCKET
    if os.path.lexists(path):
        os.unlink(path)
    listener.bind(path)
    os.chmod(path, 0o660)
    listener.listen(64)
    return listener
