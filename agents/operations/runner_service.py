"""What the runner answers on its socket; the web processes may ask for these few things only."""

from __future__ import annotations

import dataclasses
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from agents.engine.errors import BrokerRefused, EngineError
from agents.engine.types import MountProblem, MountRequest
from agents.models import OPEN_STATES, Operation, User
from agents.models.accounts import USERNAME_PATTERN
from agents.operations import permissions, proving
from agents.operations.engines import Engines
from agents.operations.environment import MOST_BYTES, MOST_VARIABLES
from agents.operations.errors import Conflict, OperationError, Refused, Unavailable
from agents.operations.mounts import MOST_MOUNTS
from agents.operations.permissions import Action
from agents.operations.secret_store import SecretStore
from agents.operations.text import visible

logger = logging.getLogger(__name__)

Reply = dict[str, Any]


class BadRequest(Refused):
    """The request does not keep the schema: our own code sends no such thing."""


class RunnerService:
    """Answers one request at a time per thread; holds no transaction while it asks engine or broker."""

    def __init__(
        self,
        engines: Engines,
        *,
        secrets: SecretStore,
        wake: Callable[[], None],
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._engines = engines
        self._secrets = secrets
        self._wake_workers, self._look = wake, look
        self._answers: Mapping[str, tuple[frozenset[str], Callable[[Mapping[str, Any]], Reply]]] = {
            "wake": (frozenset({"operation", "secrets"}), self._wake),
            "check_mounts": (frozenset({"user", "mounts"}), self._check_mounts),
            "engine_status": (frozenset(), self._engine_status),
            "follow": (frozenset(), self._follow),
            "link_account": (frozenset({"user", "account", "password"}), self._link_account),
            "first_login": (frozenset(), self._first_login),
        }

    def answer(self, request: Mapping[str, Any]) -> Reply:
        """The reply to `request`; never raises."""
        try:
            op = request.get("op")
            if not isinstance(op, str) or op not in self._answers:
                raise BadRequest("The runner knows no such request.")
            allowed, answer = self._answers[op]
            if unknown := request.keys() - allowed - {"op"}:
                raise BadRequest(f"The runner does not know the key {visible(min(unknown)[:40])} here.")
            return {"ok": True} | answer(request)
        except OperationError as error:
            return _no(error.code, error.message, error.remedy)
        except BrokerRefused as error:
            return _no(Refused.code, error.message, error.remedy)
        except EngineError as error:
            return _no(Unavailable.code, error.message, error.remedy)
        except Exception:
            logger.exception("request to the runner")
            return _no(Unavailable.code, "The runner could not answer.", "Its output tells the administrator more.")

    def _wake(self, request: Mapping[str, Any]) -> Reply:
        self._forget_ended()
        if "secrets" in request:
            operation = _operation_id(request)
            if not self._secrets.put(operation, _secrets(request["secrets"])):
                raise Conflict("Too many launches wait already.", remedy="Try again in some minutes.")
        self._wake_workers()
        return {}

    def _forget_ended(self) -> None:
        """Secrets of launches that were cancelled before a worker took them: else one person's fill the store."""
        if held := self._secrets.operations():
            ended = Operation.objects.filter(pk__in=held).exclude(state__in=OPEN_STATES)
            for operation in ended.values_list("pk", flat=True):
                self._secrets.drop(operation)

    def _check_mounts(self, request: Mapping[str, Any]) -> Reply:
        user = _user(request)
        if user is None or not permissions.can(user, Action.CHECK_MOUNTS):
            raise Refused("This account may not look at mounts.")
        found = self._engines.broker.check(user.get_username(), _mounts(request.get("mounts")))
        return {
            "results": [{"ok": not isinstance(one, MountProblem), **dataclasses.asdict(one)} for one in found],
        }

    def _engine_status(self, _request: Mapping[str, Any]) -> Reply:
        status: Reply = {"engine": False, "broker": False, "version": "", "message": ""}
        try:
            status["version"] = self._engines.engine.info().version
            status["engine"] = True
            self._engines.broker.staged()
            status["broker"] = True
        except EngineError as error:
            status["message"] = error.message
        return status

    def _follow(self, _request: Mapping[str, Any]) -> Reply:
        self._look()
        return {}

    def _link_account(self, request: Mapping[str, Any]) -> Reply:
        proving.link_account(_user(request), request, engines=self._engines)
        self._look()
        return {}

    def _first_login(self, _request: Mapping[str, Any]) -> Reply:
        self._engines.broker.forget_first_password()
        return {}


def _no(code: str, message: str, remedy: str) -> Reply:
    return {"ok": False, "code": code, "message": message, "remedy": remedy, "index": None}


def _user(request: Mapping[str, Any]) -> User | None:
    name = request.get("user")
    if not isinstance(name, str) or not re.fullmatch(USERNAME_PATTERN, name):
        raise BadRequest("“user” has to be the name of a web account.")
    return User.objects.filter(username=name).first()


def _operation_id(request: Mapping[str, Any]) -> uuid.UUID:
    text = request.get("operation")
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{32}", text):
        raise BadRequest("“operation” has to be 32 hexadecimal digits.")
    return uuid.UUID(text)


def _secrets(value: Any) -> dict[str, str]:
    """The same bounds as in the form; no message holds a name or a value."""
    fits = (
        isinstance(value, dict)
        and 0 < len(value) <= MOST_VARIABLES
        and all(isinstance(name, str) and isinstance(text, str) for name, text in value.items())
        and all(
            re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name) and "\0" not in text for name, text in value.items()
        )
        and sum(len(name) + len(text) for name, text in value.items()) <= MOST_BYTES
    )
    if not fits:
        raise BadRequest("“secrets” has to be an object of names and texts, not too many of them.")
    return dict(value)


def _mounts(value: Any) -> list[MountRequest]:
    if not isinstance(value, list) or not 0 < len(value) <= MOST_MOUNTS:
        raise BadRequest(f"“mounts” has to be a list of 1 to {MOST_MOUNTS}.")
    found: list[MountRequest] = []
    for one in value:
        if not isinstance(one, dict) or one.keys() != {"source", "destination", "mode"}:
            raise BadRequest("A mount has exactly source, destination and mode.")
        if not all(isinstance(text, str) for text in one.values()) or one["mode"] not in ("ro", "rw"):
            raise BadRequest("Source and destination of a mount are texts, its mode is ro or rw.")
        found.append(MountRequest(source=one["source"], destination=one["destination"], mode=one["mode"]))
    return found
