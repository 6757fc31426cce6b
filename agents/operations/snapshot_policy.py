"""What the runner checks again before it takes or restores a snapshot: rows alone prove nothing."""

from __future__ import annotations

import dataclasses
import re

from agents.engine.archives import Manifest
from agents.models import AgentState, Operation, OperationKind, StateSnapshot, User
from agents.operations import permissions
from agents.operations.errors import Conflict, Refused
from agents.operations.permissions import Action
from agents.operations.snapshots import check_replaceable


@dataclasses.dataclass(frozen=True, kw_only=True)
class WantedRestore:
    """`target` is None for a new state."""

    owner: User
    snapshot: StateSnapshot
    target: AgentState | None
    keep_logins: bool


def checked_snapshot(operation: Operation) -> tuple[AgentState, User]:
    """The state of a snapshot that its owner asked for. Raises Refused, Conflict."""
    state, owner = operation.agent_state, operation.requested_by
    if state is None or owner is None or operation.kind != OperationKind.SNAPSHOT or not _is_key(state.key):
        raise Refused("The operation has no state, or nobody asked for it.")
    _check_state(owner, state)
    return state, owner


def checked_restore(operation: Operation) -> WantedRestore:
    """A restore as its owner asked for it. Raises Refused, Conflict."""
    snapshot, owner, state = operation.snapshot, operation.requested_by, operation.agent_state
    if snapshot is None or owner is None or operation.kind != OperationKind.RESTORE or not _is_key(snapshot.key):
        raise Refused("The operation has no snapshot, or nobody asked for it.")
    if not permissions.can(owner, Action.RESTORE_SNAPSHOT, snapshot) or snapshot.owner_id != owner.pk:
        raise Refused("The snapshot belongs to somebody else, or its owner may not use it any more.")
    if snapshot.phase != StateSnapshot.Phase.KEPT:
        raise Conflict(f"The snapshot is {snapshot.phase}.")
    into = operation.request.get("into") if isinstance(operation.request, dict) else None
    if into == "":
        if state is not None and state.created_at < operation.created_at:
            raise Refused("The state of the operation is no new one.")
    elif state is None or into != state.key:
        raise Refused("The operation does not say which state is replaced.")
    if state is not None:
        _check_state(owner, state)
        check_replaceable(state, snapshot)
    keep = operation.request.get("keep_logins") is True
    return WantedRestore(owner=owner, snapshot=snapshot, target=state, keep_logins=keep)


def check_manifest(manifest: Manifest, snapshot: StateSnapshot, owner: User, *, uid: int) -> None:
    """The file is what the row says, and was made from this very account's files. Raises Refused."""
    said = {
        "owner": owner.get_username(),
        "state": snapshot.state_key,
        "class": snapshot.agent_class.slug,
        "with_logins": snapshot.with_logins,
        "sha256": snapshot.sha256,
    }
    if any(manifest.get(name) != value for name, value in said.items()):
        raise Refused("What is stored under this snapshot is not what its row says.")
    if manifest.get("uid") != uid:
        raise Refused(
            "The snapshot was made of another Unix account's files than the one that is linked now.",
            remedy="It can be restored when that account is linked again.",
        )


def may_hold_logins(manifest: Manifest, target: AgentState) -> bool:
    """Logins go back to the very state that they came from, if its owner kept them; nowhere else."""
    return manifest.get("with_logins") is True and manifest.get("state") == target.key


def _check_state(owner: User, state: AgentState) -> None:
    if not permissions.can(owner, Action.SNAPSHOT_STATE, state) or state.owner_id != owner.pk:
        raise Refused("The state belongs to somebody else, or its owner may not use it any more.")
    if state.phase != AgentState.Phase.KEPT or not _is_key(state.key):
        raise Conflict(f"The state is {state.phase}.")


def _is_key(key: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", key) is not None
