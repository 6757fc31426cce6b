"""The gate: a static shell of ours that holds the container until the broker has compared its mounts."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
import time
from pathlib import Path

from agents.broker import syscalls
from agents.broker.protocol import Refusal

GATE_DIR = "/run/jackin/gate"  # as in agents.engine.api; a test compares them
SECRETS_DIR = "/run/jackin/secrets"
FIFO = "open"
WORD = b"open\n"
SECONDS = 5.0  # from the container's start to its first read

_SYSTEM = Path("/usr/bin/busybox")  # where the copy that `serve` keeps is missing
_SCRIPT = f"""\
# Runs before anything of the image: wait for the broker's word, then become the agent.
# The first process of a container gets no signal that it has no handler for: without one, a stop waits for its grace.
trap 'exit 0' HUP TERM
read -r word <{GATE_DIR}/{FIFO} && [ "$word" = open ] || exit 97
exec "$@"
"""


def make(directory: str, *, busybox: Path, owner: int) -> None:
    """Fill the empty tmpfs `directory` with the program, the script and the fifo that uid `owner` may read."""
    _write(f"{directory}/busybox", _program(busybox))
    _write(f"{directory}/gate", _SCRIPT.encode())
    fifo = f"{directory}/{FIFO}"
    os.mkfifo(fifo, 0o600)
    os.chown(fifo, owner, owner)
    os.chmod(fifo, 0o400)
    os.chmod(directory, 0o555)  # noqa: S103 the agent has to read it


def _write(path: str, body: bytes) -> None:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(body)
        os.fchmod(fd, 0o555)
    finally:
        os.close(fd)


def _program(busybox: Path) -> bytes:
    for path in (busybox, _SYSTEM):
        with contextlib.suppress(OSError):
            body = path.read_bytes()
            if is_static(body):
                return body
    raise Refusal("internal", what=f"the gate: there is no static busybox at {busybox}")


def is_static(body: bytes) -> bool:
    """Whether `body` is a 64-bit ELF program that no loader has to start (no PT_INTERP)."""
    if body[:6] != b"\x7fELF\x02\x01" or len(body) < 64:
        return False
    (offset,) = struct.unpack_from("<Q", body, 32)
    size, count = struct.unpack_from("<HH", body, 54)
    headers = [body[offset + n * size : offset + n * size + 4] for n in range(count)]
    return bool(headers) and all(len(each) == 4 and each != struct.pack("<I", 3) for each in headers)


def hand_over(directory: str, values: dict[str, str], *, owner: int) -> None:
    """Write the secrets into the staged tmpfs: NAME=value, each ended by NUL; only uid `owner` may read."""
    path = f"{directory}/env"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(b"".join(f"{name}={value}".encode() + b"\0" for name, value in values.items()))
        os.fchown(fd, owner, owner)
    finally:
        os.close(fd)


def open_gate(directory: str, pidfd: int) -> None:
    """Give the word to the reader. Raises Refusal `mismatch` if the process ends or does not read in time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    until = time.monotonic() + SECONDS
    while True:
        try:
            fd = syscalls.openat2(
                f"{directory}/{FIFO}", flags=os.O_WRONLY | os.O_NONBLOCK, resolve=syscalls.RESOLVE_NO_SYMLINKS
            )
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if poll.poll(20):
            raise Refusal("mismatch", reason="it ended before its gate was opened")
        if time.monotonic() > until:
            raise Refusal("mismatch", reason=f"it did not come to its gate within {SECONDS:.0f} seconds")
    try:
        os.write(fd, WORD)
    finally:
        os.close(fd)
