"""Calls of engine and broker that a cancelled operation can give up: what they make nonetheless is removed later."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from agents.operations.engines import Engines
from agents.operations.errors import Cancelled, Unavailable
from agents.operations.progress import Progress

logger = logging.getLogger(__name__)

T = TypeVar("T")

TICK = 0.1  # seconds between two looks at output, lease and cancel request
GRACE = 2.0  # for a call to come back after the cancel: most do, and then nothing is left behind
GRACE_OF_BUILDS = 6.0  # they are told of the cancel, and stop by themselves
TIDYING = 5.0  # for removing what was made, once somebody waits for the end
MOST_SECONDS = 300.0  # of one call; engine and broker clients give up long before
MOST_SECONDS_OF_A_BUILD = 3600.0
MOST_ABANDONED = 64  # calls that nobody waits for any more, in this process; beyond that they are waited for
TRIES_AFTER = 30  # what is left then is reconcile's
PAUSE_AFTER = 2.0

_abandoned = threading.BoundedSemaphore(MOST_ABANDONED)


@dataclasses.dataclass(kw_only=True)
class Call:
    """One call in a thread of its own. `output` is what it logs; `told` tells it that somebody cancelled."""

    name: str
    output: queue.SimpleQueue[str] = dataclasses.field(default_factory=queue.SimpleQueue)
    told: threading.Event = dataclasses.field(default_factory=threading.Event)
    over: threading.Event = dataclasses.field(default_factory=threading.Event)
    given_up: bool = False
    place: threading.BoundedSemaphore | None = None  # the one that it took when it was given up
    answer: Any = None
    error: BaseException | None = None
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def start(self, work: Callable[[], Any], *, in_place: bool = False) -> None:
        if in_place:
            return self._run(work)
        threading.Thread(target=self._run, args=(work,), name=f"call {self.name}", daemon=True).start()
        return None

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.answer = work()
        except BaseException as error:
            self.error = error
        with self.lock:
            self.over.set()
            if not self.given_up:
                return
        if self.place is not None:
            self.place.release()
        if hasattr(self.answer, "close"):  # a stream that nobody takes
            with contextlib.suppress(Exception):
                self.answer.close()

    def give_up(self) -> bool:
        """Whether nobody waits for it from now on; False when it has just ended, or too many hang already."""
        with self.lock:
            if self.over.is_set() or not _abandoned.acquire(blocking=False):
                return False
            self.given_up, self.place = True, _abandoned
            return True


class Patience:
    """Makes the calls of one taken operation; its worker stays awake meanwhile: lease, output, cancel request.

    A call that does not come back after a cancel is given up, as is one that takes longer than any should. The
    operation then ends; `tidy_after` waits for the call and removes what it may have made. One more kind of call
    needs nothing here, one more part of Engines a line in `engines`. Only `run` of a call is in another thread.
    """

    def __init__(self, progress: Progress, *, in_place: bool = False) -> None:
        self._progress = progress
        self._in_place = in_place
        self._left: list[Call] = []

    def engines(self, engines: Engines) -> Engines:
        """The same engine and broker, each call of which can be given up."""
        return dataclasses.replace(
            engines,
            engine=cast(Any, _Patient(engines.engine, self)),
            broker=cast(Any, _Patient(engines.broker, self)),
            image_for=cast(Any, _patient_build(engines.image_for, self)),
        )

    def call(
        self,
        work: Callable[[Call], T],
        *,
        name: str,
        grace: float = GRACE,
        most: float = MOST_SECONDS,
    ) -> T:
        """The result of `work`. Raises what it raises; Cancelled or LeaseLost when it was given up, or Unavailable."""
        made = Call(name=name)
        if self._in_place:
            return work(made)
        made.start(lambda: work(made))
        self._wait(made, grace=grace, most=most)
        if made.error is not None:
            raise made.error
        return cast(T, made.answer)

    def _wait(self, made: Call, *, grace: float, most: float) -> None:
        until, stopping = time.monotonic() + most, False
        while not made.over.wait(TICK):
            self._write(made)
            if not stopping and self._progress.cancelled():
                made.told.set()
                stopping, until = True, time.monotonic() + grace
            if time.monotonic() > until and made.give_up():
                self._left.append(made)
                logger.warning("operation %s: %s is given up", self._progress.operation.id.hex, made.name)
                self._progress.check()  # raises, if that is why
                raise Unavailable(
                    f"“{made.name}” did not come to an end within {most:.0f} seconds.", remedy="Try again."
                )
        self._write(made)

    def _write(self, made: Call) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._progress.log(made.output.get_nowait())
        self._progress.tick()

    def tidy(self, remove: Callable[[], list[str]]) -> list[str]:
        """What `remove` could not remove; once a cancel is asked for it gets some seconds, and goes on by itself."""
        try:
            return self.call(lambda _: remove(), name="removing what was made", grace=TIDYING)
        except (Cancelled, Unavailable):
            return ["The engine or the broker does not answer."]

    def tidy_after(self, remove: Callable[[], list[str]]) -> None:
        """Once the operation has ended: when the calls that were given up are over, remove what they made, too."""
        if not self._left:
            return
        name = f"tidying {self._progress.operation.id.hex}"
        threading.Thread(target=_tidy_after, args=(list(self._left), remove), name=name, daemon=True).start()


class _Patient:
    """`target`, but each of its methods is a call that can be given up."""

    def __init__(self, target: Any, patience: Patience) -> None:
        self._target = target
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._patience.call(lambda _: found(*args, **kwargs), name=name)

        return call


def _patient_build(image_for: Callable[..., Any], patience: Patience) -> Callable[..., Any]:
    """Output and the question for a cancel go through the worker: only it may use the database."""

    def build(*args: Any, log: Callable[[str], None], cancelled: Callable[[], bool]) -> Any:
        if patience._in_place:
            return image_for(*args, log=log, cancelled=cancelled)
        return patience.call(
            lambda made: image_for(*args, log=made.output.put, cancelled=made.told.is_set),
            name="making the image",
            grace=GRACE_OF_BUILDS,
            most=MOST_SECONDS_OF_A_BUILD,
        )

    return build


def _tidy_after(left: list[Call], remove: Callable[[], list[str]]) -> None:
    """Engine and broker only, no database: the caller's rows have said all that there is to say."""
    for made in left:
        made.over.wait()
    for _ in range(TRIES_AFTER):
        try:
            if not remove():
                return
        except Exception:
            logger.exception("tidying")
        time.sleep(PAUSE_AFTER)


SOON: Final = GRACE_OF_BUILDS + TIDYING + 2 * TICK + 1  # a cancelled operation has ended after that
