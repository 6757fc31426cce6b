"""What stands around every page: counts, the engine's condition, the banner about plain HTTP."""

from __future__ import annotations

import dataclasses
import threading
import time
from functools import cached_property

from django.conf import settings
from django.http import HttpRequest

from agents.models import OPEN_STATES, User
from agents.operations import gateway, selectors
from agents.operations.errors import OperationError
from agents.operations.permissions import Person

ENGINE_SECONDS = 3.0  # how long an answer holds: every poll of every page shows it

PLAIN_HTTP = (
    "Plain HTTP with more than one account: cookies ignore ports, so another person's web server on this machine may "
    "receive your session. Use it for trying out only."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """`up` means that a launch can work now; `problem` says in a sentence why not."""

    up: bool
    line: str
    problem: str


_lock = threading.Lock()
_known: tuple[float, Engine] | None = None


def engine_now() -> Engine:
    """The engine's condition, at most ENGINE_SECONDS old; one thread asks, the others wait for its answer."""
    global _known
    with _lock:
        if _known is None or time.monotonic() - _known[0] > ENGINE_SECONDS:
            _known = (time.monotonic(), _ask())
        return _known[1]


def forget_engine() -> None:
    """Ask anew at the next page (tests)."""
    global _known
    _known = None


def _ask() -> Engine:
    try:
        status = gateway.engine_status()
    except OperationError as error:
        return Engine(up=False, line="runner silent", problem=f"{error.message} {error.remedy}".strip())
    if status.engine and status.broker:
        return Engine(up=True, line=f"Docker {status.version}" if status.version else "", problem=status.message)
    what = "engine down" if not status.engine else "broker down"
    return Engine(up=False, line=what, problem=status.message)


class Frame:
    """Looked up when a template asks, not before: the login page asks for nothing."""

    def __init__(self, person: Person) -> None:
        self._person = person

    @cached_property
    def engine(self) -> Engine:
        return engine_now()

    @cached_property
    def live_agents(self) -> int:
        return selectors.live_agents_for(self._person).count()

    @cached_property
    def open_operations(self) -> int:
        return selectors.operations_for(self._person).filter(state__in=OPEN_STATES).count()

    @cached_property
    def banner(self) -> str:
        if settings.JACKIN_TLS or not self._person.is_authenticated:
            return ""
        return PLAIN_HTTP if User.objects.filter(is_active=True).count() > 1 else ""


def frame(request: HttpRequest) -> dict[str, Frame]:
    """Context processor: `frame`."""
    return {"frame": Frame(request.user)} if hasattr(request, "user") else {}
