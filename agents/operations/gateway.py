"""What the pages may ask of the runner, over its socket: the web processes have no other way to engine and broker."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from agents.broker import wire
from agents.engine.types import CheckedMount, MountProblem, MountRequest
from agents.operations.errors import Conflict, NotFound, OperationError, Refused, Unavailable

_ERRORS: dict[str, type[OperationError]] = {kind.code: kind for kind in (NotFound, Refused, Conflict, Unavailable)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineStatus:
    """Whether launches can work now. `message` says in a sentence what is missing, or is empty."""

    engine: bool
    broker: bool
    version: str
    message: str


def wake(operation_id: uuid.UUID | None = None, *, secrets: Mapping[str, str] | None = None) -> None:
    """Tell the runner that there is work; with `secrets`, hand them over for `operation_id`, into its memory only.

    Raises Unavailable.
    """
    request: dict[str, Any] = {"op": "wake"}
    if operation_id is not None:
        request["operation"] = operation_id.hex
    if secrets:
        request["secrets"] = dict(secrets)
    _call(request, timeout=5)


def check_mounts(web_user: str, mounts: Sequence[MountRequest]) -> list[CheckedMount | MountProblem]:
    """What the broker says of each mount, as the Unix account of `web_user`. Raises Unavailable, Refused."""
    reply = _call(
        {"op": "check_mounts", "user": web_user, "mounts": [dataclasses.asdict(one) for one in mounts]}, timeout=10
    )
    try:
        found = [_found(one) for one in reply["results"]]
    except (KeyError, TypeError, ValueError):
        raise _garbled() from None
    if len(found) != len(mounts):
        raise _garbled()
    return found


def engine_status() -> EngineStatus:
    """Raises Unavailable when the runner itself does not answer."""
    reply = _call({"op": "engine_status"}, timeout=5)
    try:
        return EngineStatus(
            engine=bool(reply["engine"]),
            broker=bool(reply["broker"]),
            version=str(reply["version"]),
            message=str(reply["message"]),
        )
    except KeyError:
        raise _garbled() from None


def first_login() -> None:
    """Have the broker remove the file with the first administrator's one-time password. Raises Unavailable."""
    _call({"op": "first_login"}, timeout=10)


def follow() -> None:
    """Have the runner look now whose account was switched off, deleted or linked anew. Raises Unavailable."""
    _call({"op": "follow"}, timeout=5)


def link_account(web_user: str, account: str, password: str) -> None:
    """Link `web_user` to the Unix account that `password` opens; takes some seconds. Raises Refused, Unavailable."""
    _call({"op": "link_account", "user": web_user, "account": account, "password": password}, timeout=25)


def _found(one: Mapping[str, Any]) -> CheckedMount | MountProblem:
    if not one["ok"]:
        return MountProblem(code=str(one["code"]), message=str(one["message"]))
    return CheckedMount(
        source=str(one["source"]),
        real_path=str(one["real_path"]),
        device=int(one["device"]),
        inode=int(one["inode"]),
        fstype=str(one["fstype"]),
    )


def _call(request: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
    try:
        reply = wire.call(settings.JACKIN_RUNNER_SOCKET, request, timeout=timeout)
    except OSError as error:  # the reason only: the request may hold secrets
        raise Unavailable(
            f"The runner does not answer ({type(error).__name__}).",
            remedy="Try again in a moment; the administrator finds the reason in the output of serve.",
        ) from None
    if reply.get("ok") is True:
        return reply
    kind = _ERRORS.get(str(reply.get("code")), Unavailable)
    raise kind(str(reply.get("message") or "The runner refused."), remedy=str(reply.get("remedy") or ""))


def _garbled() -> Unavailable:
    return Unavailable("The runner gave an answer that makes no sense.", remedy="Restart the service.")
