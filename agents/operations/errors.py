"""What an operation may raise: one small tree, rendered once at the edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class OperationError(Exception):
    """An expected failure. `message` is a whole sentence for the operator, `remedy` what to do next or empty."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class NotFound(OperationError):
    """It does not exist, or it is not yours: nobody can tell which."""

    status = 404
    code = "not-found"

    def __init__(self, message: str = "There is nothing here.", *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)


class Refused(OperationError):
    """You may not do this."""

    status = 403
    code = "refused"


class Conflict(OperationError):
    """Not in this state: it happens already, or is over."""

    status = 409
    code = "conflict"


class Unavailable(OperationError):
    """A part of the service does not answer just now."""

    status = 503
    code = "unavailable"


class Cancelled(OperationError):
    """The work was stopped on request."""

    status = 409
    code = "cancelled"


class Invalid(OperationError):
    """What was asked for cannot be done as it stands.

    `errors` maps a field to its messages. Fields of a mount are `mounts.<index>.source`, `.destination`, `.mode`;
    `mounts` is the list as a whole, `""` the form as a whole.
    """

    status = 422
    code = "invalid"

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        self.errors: dict[str, list[str]] = {field: list(messages) for field, messages in errors.items() if messages}
        super().__init__(" ".join(message for messages in self.errors.values() for message in messages))

    def mount_errors(self, index: int) -> dict[str, list[str]]:
        """Messages of mount number `index` (from 0), by `source`, `destination`, `mode`."""
        prefix = f"mounts.{index}."
        return {f.removeprefix(prefix): list(m) for f, m in self.errors.items() if f.startswith(prefix)}
