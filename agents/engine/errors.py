"""What the engine and the broker may raise: a small tree that the operations layer turns into user messages."""

from __future__ import annotations


class EngineError(Exception):
    """Base of all failures of engine or broker work.

    `message` is a whole sentence for the operator: it names the thing, the value and what to do next.
    `remedy` is what to do next, or an empty string.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class EngineUnreachable(EngineError):
    """The engine's socket does not answer."""


class NotFound(EngineError):
    """The container, network or image does not exist (any more)."""


class Conflict(EngineError):
    """The engine is doing this already, or the name is taken by something that is not ours."""


class BuildFailed(EngineError):
    """An image build ended with an error; `message` holds its last words."""


class Cancelled(EngineError):
    """The work was stopped on request; whatever it had made is removed."""


class BrokerUnreachable(EngineError):
    """The broker's socket does not answer."""


class ArchiveUnreachable(EngineError):
    """The archiver's socket does not answer, or it went away while a snapshot was carried."""


class ArchiveRefused(EngineError):
    """The archiver said no. `code` is one of `missing`, `damaged`, `disk-full`, `too-large`, `exists`."""

    def __init__(self, message: str, *, code: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class BrokerRefused(EngineError):
    """The broker said no. `code` is one of `agents.broker.protocol.CODES`; `index` the mount it concerns, or None."""

    def __init__(self, message: str, *, code: str, index: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code
        self.index = index
