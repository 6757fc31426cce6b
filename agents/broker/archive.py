"""Streaming a state out as a tar, and one back in, as its owner."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import resource
import secrets
import signal
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

from agents.broker import accounts, deleting, owner, record, states, syscalls
from agents.broker.accounts import Identity
from agents.broker.config import Config
from agents.broker.packing import Packer
from agents.broker.protocol import Refusal, Request
from agents.broker.tars import PIECE, BadTar
from agents.broker.unpacking import Unpacker

log = logging.getLogger(__name__)

SECONDS_TO_STREAM = 900.0  # in all
SECONDS_TO_DELETE = 10.0  # what a restore replaced; the rest is deleted later
SECONDS_OF_SILENCE = 60  # without a byte: the other side, or a disk, hangs
MOST_MEMORY = 1024**3  # of the child: what is in a state must not cost the host more
DRAFT = ".restore-"

Work = Callable[[], dict[str, Any]]


def archive(request: Request, config: Config, until: float) -> dict[str, Any]:
    """Write the state as a tar into the request's pipe. Raises Refusal."""
    _check_pipe(request.stream, writing=True)
    identity = accounts.identity(request.web_user, config, until=until)
    stream, with_logins = request.stream, request.with_logins
    with states.opened(config, identity, request.state) as root:

        def work() -> dict[str, Any]:
            with Outgoing(stream) as out:
                return Packer(root, write=out.write, with_logins=with_logins).pack()

        return {"ok": True} | _as_owner(work, identity, keep=[root, stream])


def restore(request: Request, config: Config, until: float) -> dict[str, Any]:
    """Read a tar from the request's pipe and put it in the place of the state, whole or not at all. Raises Refusal."""
    _check_pipe(request.stream, writing=False)
    identity = accounts.identity(request.web_user, config, until=until)
    stream, with_logins = request.stream, request.with_logins
    _check_unused(request.state, config)
    with _own_directory(config, identity) as top, _draft(top, identity, request.state, config) as (draft, root):

        def work() -> dict[str, Any]:
            return Unpacker(root, read=Incoming(stream).read, with_logins=with_logins).unpack()

        numbers = _as_owner(work, identity, keep=[root, stream])
        syscalls.sync_file_system(top)  # else a power cut after the next step leaves neither
        _put_in_place(top, draft, request.state, identity)
        os.fsync(top)
    return {"ok": True} | numbers


def _as_owner(work: Work, identity: Identity, *, keep: list[int]) -> dict[str, Any]:
    """Do `work` in a child that is the owner for good; it ends after a minute without progress."""
    until = time.monotonic() + SECONDS_TO_STREAM

    def task() -> tuple[owner.Answer, int | None]:
        os.nice(5)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS_OF_SILENCE)
        return _told(work), None

    groups = identity.groups
    try:
        with owner.run_as(task, uid=identity.uid, gid=identity.gid, groups=groups, until=until, keep=keep) as (said, _):
            answer = said
    except owner.Hangs:
        raise Refusal("stream", reason=f"it took more than {int(SECONDS_TO_STREAM // 60)} minutes") from None
    except owner.Failed as error:
        log.warning("streaming a state of %s: %s", identity.account, error)
        raise Refusal("stream", reason=f"it stood still for {SECONDS_OF_SILENCE} seconds, or failed") from None
    if "refused" in answer:
        code, values = answer["refused"]
        raise Refusal(code, **values)
    return answer


def _told(work: Work) -> owner.Answer:
    try:
        return work()
    except Refusal as refusal:
        return {"refused": [refusal.code, dict(refusal.values)]}
    except BadTar as error:
        return {"refused": ["stream", {"reason": f"the snapshot is damaged: {error}"}]}
    except MemoryError:
        return {"refused": ["state-too-large", {"reason": "its names need too much memory"}]}
    except BrokenPipeError:
        return {"refused": ["stream", {"reason": "the other side closed it"}]}
    except OSError as error:
        return {"refused": ["stream", {"reason": os.strerror(error.errno or 0)}]}


def _check_unused(key: str, config: Config) -> None:
    """Raises Refusal while a launch with the state is prepared."""
    for launch in record.staged(config):
        found = record.find(launch, config)
        if found is not None and found.state_key == key:
            raise Refusal("state-in-use", state=key)


class Outgoing:
    """Collects small pieces for a pipe; each that goes out is a sign of life."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting = bytearray()
        os.set_blocking(fd, True)

    def __enter__(self) -> Outgoing:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()

    def write(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) >= PIECE:
            self._flush()

    def _flush(self) -> None:
        view = memoryview(bytes(self._waiting))
        self._waiting.clear()
        while view:
            view = view[os.write(self._fd, view[:65536]) :]
            signal.alarm(SECONDS_OF_SILENCE)


class Incoming:
    """Gives what a pipe brings in pieces as they are asked for; each that comes in is a sign of life."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = memoryview(b"")

    def read(self, most: int) -> bytes:
        if not self._data:
            self._data = memoryview(os.read(self._fd, 65536))
            signal.alarm(SECONDS_OF_SILENCE)
        piece, self._data = self._data[:most], self._data[most:]
        return bytes(piece)


def _check_pipe(fd: int, *, writing: bool) -> None:
    """Nothing but the right end of a pipe: neither a file nor a socket that would do something else when written."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode) or flags != (os.O_WRONLY if writing else os.O_RDONLY):
        raise Refusal("bad-request", detail="the descriptor has to be one end of a pipe")
    os.set_blocking(fd, True)


@contextlib.contextmanager
def _own_directory(config: Config, identity: Identity) -> Iterator[int]:
    """The directory of all states of the account, which is root's; made where it is missing."""
    place = config.states / str(identity.uid)
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    top = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield top
    finally:
        os.close(top)


@contextlib.contextmanager
def _draft(top: int, identity: Identity, key: str, config: Config) -> Iterator[tuple[str, int]]:
    """An empty directory of the owner beside the state; what it holds at the end is thrown away."""
    for left in os.listdir(top):
        if left.startswith(f"{DRAFT}{key}-"):  # of a worker that was killed; there is one at a time for a state
            _throw_away(top, left, identity.uid, config)
    name = f"{DRAFT}{key}-{secrets.token_hex(8)}"
    os.mkdir(name, 0o700, dir_fd=top)
    try:
        os.chown(name, identity.uid, identity.gid, dir_fd=top, follow_symlinks=False)
        root = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        try:
            yield name, root
        finally:
            os.close(root)
    finally:
        _throw_away(top, name, identity.uid, config)


def _put_in_place(top: int, draft: str, key: str, identity: Identity) -> None:
    """One step for whoever looks: before it the old state is there, after it the new one."""
    try:
        found = os.stat(key, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(draft, key, src_dir_fd=top, dst_dir_fd=top)
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != identity.uid:
        raise Refusal("no-state", state=key)
    syscalls.exchange(draft, key, at=top)


def clean_up(config: Config) -> None:
    """At the broker's start: what a restore left half made goes to the trash."""
    with contextlib.suppress(FileNotFoundError):
        for place in sorted(config.states.iterdir()):
            if not place.name.isdecimal():
                continue
            top = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                for name in os.listdir(top):
                    if name.startswith(DRAFT):
                        _throw_away(top, name, int(place.name), config)
            finally:
                os.close(top)


def _throw_away(top: int, name: str, uid: int, config: Config) -> None:
    """Move it to the trash, if it is there, and remove it."""
    target = states.trash(config, uid, secrets.token_hex(16))
    try:
        os.rename(name, target, src_dir_fd=top)
    except FileNotFoundError:
        return
    try:
        done, _ = deleting.delete_as(uid, target, until=time.monotonic() + SECONDS_TO_DELETE)
        if done:
            target.rmdir()
    except (Refusal, owner.Failed, OSError) as error:
        log.warning("%s stays in the trash for now: %s", target, error)  # it is gone on with as with every purge
