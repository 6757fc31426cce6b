"""The threads that work on operations, and the one that keeps their leases."""

from __future__ import annotations

import logging
import threading
import time

from django.db import connections

from agents.models import Operation, OperationKind
from agents.operations import leases
from agents.operations.ejecting import run_eject
from agents.operations.endings import refuse_unknown
from agents.operations.engines import Engines
from agents.operations.exiling import run_exile
from agents.operations.launching import run_launch
from agents.operations.purge_running import run_purge
from agents.operations.restoring import run_restore
from agents.operations.secret_store import SecretStore
from agents.operations.snapshotting import run_snapshot
from agents.operations.streams import StreamSink

logger = logging.getLogger(__name__)

THREADS = 8  # most of their time they wait for engine and broker
URGENT = 2  # further ones, that take ejects and exiles only: launches must not keep agents from being ended
LOOK_EVERY = 2.0  # seconds, when nobody wakes us
BEAT_EVERY = 10.0


class Workers:
    """Takes operations until it is stopped. `wake` makes it look at once."""

    def __init__(
        self, engines: Engines, *, streams: StreamSink, secrets: SecretStore, process: str, threads: int = THREADS
    ) -> None:
        self._engines = engines
        self._streams = streams
        self._secrets = secrets
        self._process = process
        self._stop = threading.Event()
        self._work = threading.Condition()
        self._woken = 0
        self._replaced: set[str] = set()  # tokens of workers that got stuck
        self._threads = [self._thread(f"worker-{number}") for number in range(threads)]
        self._threads += [self._thread(f"urgent-{number}", urgent=True) for number in range(URGENT if threads else 0)]
        self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def _thread(self, name: str, *, urgent: bool = False) -> threading.Thread:
        return threading.Thread(target=self._loop, kwargs={"urgent": urgent}, name=name, daemon=True)

    def start(self) -> None:
        for thread in (*self._threads, self._beating):
            thread.start()

    def stop(self, *, timeout: float = 5) -> None:
        """Take nothing new. What is under way goes on in a later process, once this one is gone."""
        self._stop.set()
        self.wake()
        until = time.monotonic() + timeout
        for thread in (*self._threads, self._beating):
            thread.join(timeout=max(0.0, until - time.monotonic()))

    def wake(self) -> None:
        with self._work:
            self._woken += 1
            self._work.notify_all()

    def work_once(self, *, urgent: bool = False) -> bool:
        """Take one operation and work on it to its end; False when there was none."""
        operation = leases.take(self._process, urgent=urgent)
        if operation is None:
            return False
        token = operation.lease_owner  # the end of the work clears it
        leases.hold(token)
        try:
            self._run(operation)
        except leases.LeaseLost:
            logger.warning("operation %s: another worker has it", operation.id.hex)
        except Exception:  # the lease runs out, and another attempt follows
            logger.exception("operation %s: given back", operation.id.hex)
        finally:
            leases.drop(token)
        return True

    def _run(self, operation: Operation) -> None:
        logger.info("operation %s: %s, attempt %d", operation.id.hex, operation.kind, operation.attempt)
        if operation.kind == OperationKind.LAUNCH:
            secrets = self._secrets.get(operation.id)
            run_launch(operation, engines=self._engines, streams=self._streams, secrets=secrets)
            self._secrets.drop(operation.id)
        elif operation.kind == OperationKind.EJECT:
            run_eject(operation, engines=self._engines, streams=self._streams)
        elif operation.kind == OperationKind.EXILE:
            run_exile(operation, engines=self._engines, streams=self._streams)
        elif operation.kind == OperationKind.PURGE:
            run_purge(operation, engines=self._engines)
        elif operation.kind == OperationKind.SNAPSHOT:
            run_snapshot(operation, engines=self._engines)
        elif operation.kind == OperationKind.RESTORE:
            run_restore(operation, engines=self._engines)
        else:
            refuse_unknown(operation)
        logger.info("operation %s: %s", operation.id.hex, operation.state)

    def _loop(self, *, urgent: bool) -> None:
        try:
            while not self._stop.is_set():
                seen = self._woken
                if self._worked(urgent=urgent):
                    continue
                with self._work:
                    if self._woken == seen and not self._stop.is_set():
                        self._work.wait(timeout=LOOK_EVERY)
        finally:
            connections.close_all()

    def _worked(self, *, urgent: bool) -> bool:
        try:
            return self.work_once(urgent=urgent)
        except Exception:
            logger.exception("taking an operation")
            connections.close_all()
            return False

    def beat_once(self) -> None:
        """Keep the leases of workers that give signs of life; for each that is stuck, another thread goes on."""
        alive, stuck = leases.living()
        leases.beat(alive)
        for token in stuck:
            if token in self._replaced or len(self._replaced) >= THREADS:
                continue
            logger.error("lease %s: its worker is stuck, and loses it", token)
            self._replaced.add(token)
            self._thread(f"worker-for-stuck-{len(self._replaced)}").start()

    def _beat(self) -> None:
        try:
            while not self._stop.wait(timeout=BEAT_EVERY):
                try:
                    self.beat_once()
                except Exception:
                    logger.exception("keeping the leases")
                    connections.close_all()
        finally:
            connections.close_all()
