"""Putting a snapshot back: over a state, which is snapshotted first, or into a new one."""

from __future__ import annotations

import logging

from django.db import transaction

from agents.engine import naming
from agents.engine.archives import Manifest
from agents.engine.errors import BrokerRefused, BrokerUnreachable, EngineError
from agents.models import LIVE_STATES, Agent, AgentState, Operation, StateSnapshot
from agents.operations import audit, snapshot_policy
from agents.operations.endings import fail_operation, succeed_operation
from agents.operations.engines import Engines
from agents.operations.errors import Conflict, OperationError
from agents.operations.leases import LeaseLost
from agents.operations.progress import Progress
from agents.operations.snapshot_policy import WantedRestore
from agents.operations.snapshotting import Taking, check_attempts, discard, keep, making, teller

logger = logging.getLogger(__name__)


def run_restore(operation: Operation, *, engines: Engines) -> None:
    """Work on a taken restore until the state is the snapshot's or what it was. Raises LeaseLost."""
    progress = Progress(operation)
    work = Restoring(operation, engines=engines, progress=progress)
    try:
        check_attempts(operation)
        work.run()
    except LeaseLost:
        raise
    except Exception as error:
        if not isinstance(error, OperationError | EngineError):
            logger.exception("operation %s: restore failed", operation.id.hex)
        work.undo(error)


class Restoring:
    """One restore. `uncertain` is true from the moment on in which the state may have been replaced."""

    def __init__(self, operation: Operation, *, engines: Engines, progress: Progress) -> None:
        self._operation = operation
        self._engines = engines
        self._progress = progress
        self._uncertain = operation.attempt > 1

    def run(self) -> None:
        with self._progress.step("restore-check"):
            wanted = snapshot_policy.checked_restore(self._operation)
            manifest = self._manifest(wanted)
            target = wanted.target or self._new_state(wanted)
        if self._operation.request.get("into"):
            self._save(target, wanted)
        with self._progress.step("restore", last=True):
            self._restore(target, wanted, manifest)
            with transaction.atomic(durable=True):
                AgentState.objects.filter(pk=target.pk).update(size=None, entries=None, has_logins=None)
                audit.record(
                    "snapshot.restored",
                    actor=wanted.owner,
                    operation=self._operation,
                    summary=f"{wanted.snapshot}, as {target.name}",
                )
                succeed_operation(self._operation, self._progress)

    def undo(self, error: Exception) -> None:
        """Nothing is left but, where the state may have been replaced, the snapshot of what it was."""
        note = ""
        if not self._uncertain:
            discard(self._operation, engines=self._engines)
            self._forget_saved()
            self._forget_new_state()
        elif StateSnapshot.objects.filter(key=self._operation.id.hex, phase=StateSnapshot.Phase.KEPT).exists():
            note = "The snapshot of what was there before is kept."
        fail_operation(self._operation, error, self._progress, note=note)

    def _manifest(self, wanted: WantedRestore) -> Manifest:
        manifest = self._engines.archive.manifest(wanted.snapshot.key)
        identity = self._engines.broker.identity(wanted.owner.get_username())
        snapshot_policy.check_manifest(manifest, wanted.snapshot, wanted.owner, uid=identity.uid)
        return manifest

    def _new_state(self, wanted: WantedRestore) -> AgentState:
        """The row of the new state, before its directory; the operation holds it from now on."""
        slug, owner = wanted.snapshot.agent_class.slug, wanted.owner
        begins = naming.primary_name(owner.get_username(), slug)
        with transaction.atomic(durable=True):
            taken = set(AgentState.objects.filter(name__startswith=begins).values_list("name", flat=True))
            live = Agent.objects.filter(name__startswith=begins, state__in=LIVE_STATES)
            taken |= {begins, *live.values_list("name", flat=True)}
            name = naming.agent_name(owner.get_username(), slug, taken=taken)
            made = AgentState.objects.create(name=name, owner=owner, agent_class=wanted.snapshot.agent_class)
            mine = Operation.objects.filter(pk=self._operation.pk, lease_owner=self._operation.lease_owner)
            if not mine.update(agent_state=made):
                raise LeaseLost
            audit.record("state.make", actor=owner, operation=self._operation, summary=f"{name}, for a snapshot")
        self._operation.agent_state = made
        self._progress.log(f"It becomes the state {name}.")
        return made

    def _save(self, target: AgentState, wanted: WantedRestore) -> None:
        """Snapshot what is about to be replaced, unless an earlier attempt has, or there is nothing yet."""
        if StateSnapshot.objects.filter(key=self._operation.id.hex, phase=StateSnapshot.Phase.KEPT).exists():
            return
        reason = f"before {wanted.snapshot} took its place"
        row = making(self._operation, target, with_logins=wanted.keep_logins, reason=reason)
        operation, engines, progress = self._operation, self._engines, self._progress
        try:
            manifest = Taking(operation, target, wanted.owner, row, engines=engines, progress=progress).take()
        except BrokerRefused as refused:
            if refused.code != "no-state":
                raise
            progress.log("There is nothing to snapshot yet.")
            discard(operation, engines=engines)
            return
        with transaction.atomic(durable=True):
            keep(row, manifest)

    def _restore(self, target: AgentState, wanted: WantedRestore, manifest: Manifest) -> None:
        name, logins = wanted.owner.get_username(), snapshot_policy.may_hold_logins(manifest, target)
        if Agent.objects.filter(agent_state=target, state__in=LIVE_STATES).exists():
            raise Conflict(f"{target.name} is in use by now.")

        def sink(stream: int) -> None:
            self._engines.broker.restore(name, target.key, with_logins=logins, stream=stream)

        before, self._uncertain = self._uncertain, True
        try:
            self._engines.archive.give(
                wanted.snapshot.key, sink, progress=teller(self._progress), cancelled=self._progress.cancelled
            )
        except BrokerUnreachable:
            raise  # it may be done all the same
        except EngineError:
            self._uncertain = before  # whole or not at all: it was refused, or its tar was cut
            raise

    def _forget_saved(self) -> None:
        """The snapshot of a state that was not replaced after all."""
        row = StateSnapshot.objects.filter(key=self._operation.id.hex, phase=StateSnapshot.Phase.KEPT).first()
        if row is None or row.owner_id != self._operation.requested_by_id:
            return
        try:
            self._engines.archive.remove(row.key)
        except EngineError as error:
            logger.warning("snapshot %s: not removed: %s", row.key, error.message)
            return
        with transaction.atomic(durable=True):
            audit.record("snapshot.unneeded", actor=row.owner, operation=self._operation, summary=str(row))
            row.delete()

    def _forget_new_state(self) -> None:
        state = self._operation.agent_state
        if self._operation.request.get("into") != "" or state is None or not state.created_at:
            return
        if state.owner_id == self._operation.requested_by_id and state.created_at >= self._operation.created_at:
            self._operation.agent_state = None
            with transaction.atomic(durable=True):
                audit.record("state.unneeded", actor=state.owner, operation=self._operation, summary=state.name)
                state.delete()
