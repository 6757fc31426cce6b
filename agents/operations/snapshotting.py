"""Taking a snapshot: freeze, carry, thaw, store, read back; nothing is left of one that did not come to its end."""

from __future__ import annotations

import logging
import time

from django.db import transaction
from django.utils import timezone

from agents.engine.archives import Draft, Manifest, Told
from agents.engine.errors import ArchiveRefused, EngineError
from agents.engine.types import Packed
from agents.models import AgentState, Operation, StateSnapshot, User
from agents.operations import audit, freezing, snapshot_policy
from agents.operations.endings import fail_operation, succeed_operation
from agents.operations.engines import Engines
from agents.operations.errors import OperationError, Unavailable
from agents.operations.leases import MOST_ATTEMPTS, LeaseLost
from agents.operations.progress import Progress
from agents.operations.snapshots import live_agent

logger = logging.getLogger(__name__)

TELL_EVERY = 2.0


def run_snapshot(operation: Operation, *, engines: Engines) -> None:
    """Work on a taken snapshot until it is kept or gone; replayable at any point. Raises LeaseLost."""
    progress = Progress(operation)
    try:
        check_attempts(operation)
        with progress.step("snapshot-check"):
            state, owner = snapshot_policy.checked_snapshot(operation)
            with_logins = operation.request.get("with_logins") is True
            reason = str(operation.request.get("reason", ""))[:200]
            row = making(operation, state, with_logins=with_logins, reason=reason)
        manifest = Taking(operation, state, owner, row, engines=engines, progress=progress).take()
        with transaction.atomic(durable=True):
            keep(row, manifest)
            Operation.objects.filter(pk=operation.pk).update(snapshot=row)
            succeed_operation(operation, progress)
    except LeaseLost:
        raise
    except Exception as error:
        if not isinstance(error, OperationError | EngineError):
            logger.exception("operation %s: snapshot failed", operation.id.hex)
        discard(operation, engines=engines)
        fail_operation(operation, error, progress)


class Taking:
    """One snapshot, named by its operation: so that a later attempt finds what an earlier one has stored."""

    def __init__(
        self,
        operation: Operation,
        state: AgentState,
        owner: User,
        row: StateSnapshot,
        *,
        engines: Engines,
        progress: Progress,
    ) -> None:
        self._operation = operation
        self._state = state
        self._owner = owner
        self._row = row
        self._engines = engines
        self._progress = progress
        self._tell = teller(progress)

    def take(self) -> Manifest:
        """Steps snapshot-copy and snapshot-store; the agent, if one has the state, is frozen during the first."""
        if self._operation.attempt > 1:
            self._thaw()
            if (stored := self._stored()) is not None:
                return stored
        archive, identity = self._engines.archive, self._engines.broker.identity(self._owner.get_username())
        with archive.draft(self._row.key, progress=self._tell, cancelled=self._progress.cancelled) as draft:
            with self._progress.step("snapshot-copy"):
                packed = self._copy(draft)
            with self._progress.step("snapshot-store"):
                return draft.keep(self._described(packed, uid=identity.uid))

    def _copy(self, draft: Draft) -> Packed:
        agent = live_agent(self._state)
        if agent is None:
            packed = draft.fill(self._archive)
        else:
            with freezing.frozen(self._engines, agent.key):
                packed = draft.fill(self._archive)
        words = [f"{packed.entries} entries"]
        words += [f"{packed.skipped} sockets, pipes or other things left out"] if packed.skipped else []
        words += [f"{packed.changed} changed meanwhile"] if packed.changed else []
        words += [f"{packed.logins_left_out} logins left out"] if packed.logins_left_out else []
        self._progress.log(", ".join(words))
        return packed

    def _archive(self, stream: int) -> Packed:
        name, logins = self._owner.get_username(), self._row.with_logins
        return self._engines.broker.archive(name, self._state.key, with_logins=logins, stream=stream)

    def _described(self, packed: Packed, *, uid: int) -> Manifest:
        return {
            "state": self._state.key,
            "state_name": self._state.name,
            "owner": self._owner.get_username(),
            "uid": uid,
            "class": self._state.agent_class.slug,
            "with_logins": self._row.with_logins,
            "operation": self._operation.id.hex,
            "made_at": timezone.now().isoformat(),
            "entries": packed.entries,
            "bytes": packed.bytes,
            "skipped": packed.skipped,
            "changed": packed.changed,
            "logins_left_out": packed.logins_left_out,
        }

    def _stored(self) -> Manifest | None:
        """What an earlier attempt stored, if that is whole and of this state; removed otherwise."""
        try:
            manifest = self._engines.archive.verify(self._row.key, cancelled=self._progress.cancelled)
        except ArchiveRefused as refused:
            if refused.code == "missing":
                return None
            manifest = {}
        wanted = (self._state.key, self._owner.get_username(), self._row.with_logins)
        if tuple(manifest.get(name) for name in ("state", "owner", "with_logins")) == wanted:
            return manifest
        self._engines.archive.remove(self._row.key)
        return None

    def _thaw(self) -> None:
        if (agent := live_agent(self._state)) is not None:
            freezing.thaw(self._engines, agent.key)


def teller(progress: Progress) -> Told:
    """Writes now and then how far a stream is."""
    told = 0.0

    def tell(done: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_EVERY:
            told = time.monotonic()
            progress.log(f"{done / 1024**2:.0f} MB carried")

    return tell


def check_attempts(operation: Operation) -> None:
    """Raises Unavailable after too many."""
    if operation.attempt > MOST_ATTEMPTS:
        raise Unavailable(f"It was begun {MOST_ATTEMPTS} times and never came to an end.")


def making(operation: Operation, state: AgentState, *, with_logins: bool, reason: str) -> StateSnapshot:
    """The row of the snapshot that the operation makes; it has the operation's id as key."""
    row, _ = StateSnapshot.objects.get_or_create(
        key=operation.id.hex,
        defaults={
            "state": state,
            "state_key": state.key,
            "state_name": state.name,
            "owner_id": state.owner_id,
            "agent_class_id": state.agent_class_id,
            "with_logins": with_logins,
            "reason": reason,
        },
    )
    if (row.owner_id, row.state_key, row.with_logins) != (state.owner_id, state.key, with_logins):
        raise Unavailable("A row of another snapshot is in the way.", remedy="Try again.")
    return row


def keep(row: StateSnapshot, manifest: Manifest) -> None:
    """The file is there and was read back: now the row counts; inside the caller's transaction."""
    making_row = StateSnapshot.objects.filter(pk=row.pk, phase=StateSnapshot.Phase.MAKING)
    making_row.update(
        phase=StateSnapshot.Phase.KEPT,
        size=manifest["size"],
        sha256=manifest["sha256"],
        content_size=manifest["bytes"],
        entries=manifest["entries"],
    )
    audit.record("snapshot.kept", actor=row.owner, summary=f"{row}, {manifest['entries']} entries")


def discard(operation: Operation, *, engines: Engines) -> None:
    """Remove the file, then the row, of a snapshot that is not kept; what does not work now is done each minute."""
    row = StateSnapshot.objects.filter(key=operation.id.hex, phase=StateSnapshot.Phase.MAKING).first()
    if row is None:
        return
    try:
        engines.archive.remove(row.key)
    except EngineError as error:
        logger.warning("snapshot %s: not removed yet: %s", row.key, error.message)
        return
    row.delete()
