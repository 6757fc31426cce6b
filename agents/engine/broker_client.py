"""The broker and the guard, spoken to over their sockets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from agents.broker import protocol, texts, wire
from agents.engine.errors import BrokerRefused, BrokerUnreachable
from agents.engine.types import (
    AccountLink,
    CheckedMount,
    Deleted,
    HostIdentity,
    MountProblem,
    MountRequest,
    Packed,
    StagedMount,
    Staging,
    StateSize,
    StatesOnDisk,
)

SECONDS = 5.0  # the broker answers or refuses within 3
SECONDS_TO_ACT = 20.0  # longer than the broker gives those that mount, admit or release
SECONDS_TO_CARRY = 960.0  # longer than the broker gives a whole state
SECONDS_FOR_FIREWALL = 30.0


class BrokerClient:
    """Implements `agents.engine.api.Broker`; one connection per call, usable from any thread."""

    def __init__(self, broker: str | os.PathLike[str], *, guard: str | os.PathLike[str]) -> None:
        self._broker = os.fspath(broker)
        self._guard = os.fspath(guard)

    def identity(self, web_user: str) -> HostIdentity:
        reply = self._ask("identity", web_user=web_user)
        return HostIdentity(
            account=reply["account"],
            uid=reply["uid"],
            gid=reply["gid"],
            home=reply["home"],
            groups=tuple(reply["groups"]),
        )

    def links(self) -> list[AccountLink]:
        return [AccountLink(**link) for link in self._ask("links")["links"]]

    def link(self, web_user: str, account: str) -> AccountLink:
        """Only root may: `manage.py host link`."""
        return AccountLink(**self._ask("link", web_user=web_user, account=account)["link"])

    def unlink(self, web_user: str) -> bool:
        """Whether there was a link."""
        return bool(self._ask("unlink", web_user=web_user)["removed"])

    def link_with_password(self, web_user: str, account: str, password: str) -> AccountLink:
        return AccountLink(
            **self._ask("link_with_password", web_user=web_user, account=account, password=password)["link"]
        )

    def check(self, web_user: str, mounts: Sequence[MountRequest]) -> list[CheckedMount | MountProblem]:
        results = self._ask("check", web_user=web_user, mounts=_sent(mounts))["results"]
        return [_checked(result) for result in results]

    def directories(self, web_user: str, path: str, *, prefix: str = "", most: int = 200) -> tuple[list[str], bool]:
        """Names of the directories in `path` as the owner sees them, and whether there are more."""
        reply = self._ask("list", web_user=web_user, path=path, prefix=prefix, most=most)
        return list(reply["names"]), bool(reply["more"])

    def stage(self, web_user: str, launch: str, mounts: Sequence[MountRequest], *, state: str = "") -> Staging:
        wanted = {"state": state} if state else {}
        reply = self._ask("stage", web_user=web_user, launch=launch, mounts=_sent(mounts), **wanted)
        return Staging(
            launch=reply["launch"],
            mounts=tuple(StagedMount(**mount) for mount in reply["mounts"]),
            gate=reply["gate"],
            secrets=reply["secrets"],
            groups=tuple(reply["groups"]),
            state=reply["state"],
        )

    def make_state(self, web_user: str, state: str) -> bool:
        return bool(self._ask("make_state", web_user=web_user, state=state)["made"])

    def measure_state(self, state: str) -> StateSize:
        reply = self._ask("measure_state", state=state)
        return StateSize(**{key: reply[key] for key in ("size", "entries", "logins", "whole")})

    def list_states(self) -> StatesOnDisk:
        reply = self._ask("list_states")
        kept = frozenset(key for keys in reply["states"].values() for key in keys)
        return StatesOnDisk(kept=kept, trash=frozenset(reply["trash"]))

    def purge_state(self, state: str) -> Deleted:
        reply = self._ask("purge_state", state=state)
        return Deleted(done=bool(reply["done"]), removed=int(reply["removed"]))

    def admit(self, launch: str, *, pid: int, secrets: Mapping[str, str]) -> None:
        self._ask("admit", launch=launch, pid=pid, secrets=dict(secrets))

    def release(self, launch: str) -> None:
        self._ask("release", launch=launch)

    def staged(self) -> list[str]:
        return list(self._ask("staged")["launches"])

    def forget_first_password(self) -> None:
        self._ask("forget_first_password")

    def archive(self, web_user: str, state: str, *, with_logins: bool, stream: int) -> Packed:
        reply = self._carry("archive", stream, web_user=web_user, state=state, with_logins=with_logins)
        names = ("entries", "bytes", "skipped", "changed", "logins_left_out")
        return Packed(**{name: int(reply[name]) for name in names})

    def restore(self, web_user: str, state: str, *, with_logins: bool, stream: int) -> None:
        self._carry("restore", stream, web_user=web_user, state=state, with_logins=with_logins)

    def network_ready(self) -> None:
        _call(self._guard, {"v": protocol.VERSION, "op": "network_ready"}, SECONDS_FOR_FIREWALL, "guard")

    def _ask(self, op: str, **fields: object) -> dict[str, Any]:
        seconds = SECONDS_TO_ACT if op in protocol.ACTS else SECONDS
        return _call(self._broker, protocol.request(op, **fields), seconds, "broker")

    def _carry(self, op: str, stream: int, **fields: object) -> dict[str, Any]:
        return _call(self._broker, protocol.request(op, **fields), SECONDS_TO_CARRY, "broker", stream)


def _call(path: str, request: dict[str, Any], timeout: float, who: str, *descriptors: int) -> dict[str, Any]:
    try:
        wire.encode(request, most=wire.MOST_REQUEST)
    except wire.WireError as error:
        sentence, remedy = texts.TEXTS["bad-request"]
        raise BrokerRefused(sentence.format(detail=error), code="bad-request", remedy=remedy) from error
    try:
        reply = wire.call(path, request, timeout=timeout, descriptors=descriptors)
    except OSError as error:
        message = f"The {who} of this service does not answer ({error})."
        raise BrokerUnreachable(message, remedy="Ask the administrator to look at scripts/serve.") from error
    if reply.get("ok") is not True:
        raise BrokerRefused(
            str(reply.get("message", f"The {who} refused.")),
            code=str(reply.get("code", "internal")),
            index=reply.get("index"),
            remedy=str(reply.get("remedy", "")),
        )
    return reply


def _sent(mounts: Sequence[MountRequest]) -> list[dict[str, str]]:
    return [{"source": each.source, "destination": each.destination, "mode": each.mode} for each in mounts]


def _checked(result: Mapping[str, Any]) -> CheckedMount | MountProblem:
    if result["ok"]:
        return CheckedMount(**{key: result[key] for key in ("source", "real_path", "device", "inode", "fstype")})
    message = " ".join(part for part in (result["message"], result["remedy"]) if part)
    return MountProblem(code=result["code"], message=message)
