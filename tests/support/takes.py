"""Takes of one kernel resource until it is refused, and holds it; run inside agents and on the host, needs no package.

takes.py RESOURCE UIDS EACH    UIDS processes (as root: each as a user of its own) take EACH times; holds to its
                               standard input's end; says {"taken": N, "refused": {ERRNO: PROCESSES}}
takes.py --once RESOURCE…      what an honest program needs of each; says {RESOURCE: "ok" or ERRNO}
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

FIRST_UID = 20000
_libc = ctypes.CDLL(None, use_errno=True)
_IO_SETUP, _ADD_KEY = {"x86_64": (206, 248), "aarch64": (0, 217)}[platform.machine()]
held: list[Any] = []  # for as long as this process lives


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def inotify() -> None:
    held.append(_checked(_libc.inotify_init1(0)))
    if len(held) == 1:
        _checked(_libc.inotify_add_watch(held[0], b"/tmp", 2))


def watches() -> None:
    if not held:
        held.extend([_checked(_libc.inotify_init1(0)), tempfile.mkdtemp()])
    place = f"{held[1]}/{len(held)}"
    held.append(os.mkdir(place))
    _checked(_libc.inotify_add_watch(held[0], place.encode(), 2))


def fanotify() -> None:
    held.append(_checked(_libc.fanotify_init(0x200, 0)))  # FAN_REPORT_FID: the kernel would let anybody have it


def namespaces() -> None:
    child = os.fork()
    if child == 0:
        os._exit(ctypes.get_errno() if _libc.unshare(0x10000000) else 0)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(code, os.strerror(code))


def keys() -> None:
    held.append(_checked(_libc.syscall(_ADD_KEY, b"user", f"takes-{len(held)}".encode(), b"x", 1, -2)))


def pids() -> None:
    child = os.fork()
    if child == 0:
        _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        signal.pause()
    held.append(child)


def files() -> None:
    held.append(os.open("/dev/null", os.O_RDONLY))


def pipes() -> None:
    held.extend(os.pipe())
    if (size := fcntl.fcntl(held[-1], fcntl.F_GETPIPE_SZ)) < 65536:
        raise OSError(errno.EDQUOT, f"a pipe of {size} bytes")


def epoll() -> None:
    """A thousand watches."""

    class Event(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))

    if not held:
        held.append([os.eventfd(0) for _ in range(1000)])
    held.append(_checked(_libc.epoll_create1(0)))
    event = ctypes.byref(Event(1, 0))
    for file in held[0]:
        _checked(_libc.epoll_ctl(held[-1], 1, file, event))


def aio() -> None:
    _checked(_libc.syscall(_IO_SETUP, 8000, ctypes.byref(ctypes.c_ulong(0))))


def terminals() -> None:
    held.extend(os.openpty())


def signals() -> None:
    if not held:
        held.append(signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN]))
    _checked(_libc.sigqueue(os.getpid(), int(signal.SIGRTMIN), None))


def timers() -> None:
    _checked(_libc.timer_create(1, None, ctypes.byref(ctypes.c_void_p())))


def queues() -> None:
    name = f"/takes-{os.getpid()}-{len(held)}".encode()
    held.append(_checked(_libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)))
    _libc.mq_unlink(name)


def locked() -> None:
    segment = _checked(_libc.shmget(0, 65536, 0o1600))
    try:
        _checked(_libc.shmctl(segment, 11, None))  # SHM_LOCK
    finally:
        _libc.shmctl(segment, 0, None)  # gone with this process


def unix() -> None:
    """A pair whose buffer is full."""
    held.extend(socket.socketpair())
    held[-1].setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            held[-1].send(b"x" * 65536)


def in_flight() -> None:
    """As many descriptors as one message carries, on their way in a socket that nobody reads."""
    held.extend(socket.socketpair())
    socket.send_fds(held[-1], [b"x"], [0] * 253)


def udp() -> None:
    """A socket whose receive buffer is full."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    receiver.bind(("127.0.0.1", 0))
    held.append(receiver)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        room = receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        for _ in range(room // 30000):
            sender.sendto(b"x" * 20000, receiver.getsockname())


def tcp() -> None:
    """A connection with both ends' buffers full."""
    if not held:
        held.append(socket.create_server(("127.0.0.1", 0)))
    ends = [socket.create_connection(held[0].getsockname()), held[0].accept()[0]]
    held.extend(ends)
    for end in ends:
        end.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                end.send(b"x" * 1_000_000)


def transfer() -> None:
    """What is sent over loopback arrives: 4 MB over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 10) as one:
        sender = threading.Thread(target=one.sendall, args=(b"x" * 4_000_000,), daemon=True)
        sender.start()
        with server.accept()[0] as other:
            other.settimeout(10)
            left = 4_000_000
            while left and (piece := other.recv(65536)):
                left -= len(piece)
        sender.join(10)


def datagrams() -> None:
    """What is sent over loopback arrives: 50 datagrams."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("127.0.0.1", 0))
        one.settimeout(5)
        for _ in range(50):
            other.sendto(b"x" * 1000, one.getsockname())
            one.recv(2000)


TAKES: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        *(inotify, watches, fanotify, namespaces, keys, pids, files, pipes, epoll, aio, terminals, signals, timers),
        *(queues, locked, unix, in_flight, udp, tcp, transfer, datagrams),
    )
}


def _try(take: Callable[[], None], times: int) -> tuple[int, str]:
    """How often it worked, and the name of the error that ended it, or an empty string."""
    for done in range(times):
        try:
            take()
        except OSError as error:
            return done, errno.errorcode.get(error.errno or 0, str(error))
    return times, ""


def _worker(take: Callable[[], None], times: int, *, number: int, say: int, until: int) -> None:
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(*[FIRST_UID + number] * 3)
        os.setresuid(*[FIRST_UID + number] * 3)
    taken, refused = _try(take, times)
    os.write(say, f"{taken} {refused or '-'}\n".encode())
    os.read(until, 1)


def attack(name: str, workers: int, times: int) -> None:
    """Start the workers, say what they took, hold it to the end of standard input."""
    say, until = os.pipe(), os.pipe()
    begun, refused, taken = list[int](), dict[str, int](), 0
    for number in range(workers):
        try:
            child = os.fork()
        except OSError as error:
            refused[errno.errorcode[error.errno or 0]] = 1
            break
        if child == 0:
            os.close(until[1])
            try:
                _worker(TAKES[name], times, number=number, say=say[1], until=until[0])
            finally:
                os._exit(0)
        begun.append(child)
    os.close(say[1])
    with open(say[0], encoding="ascii") as told:
        for _ in begun:
            if not (line := told.readline()):
                break  # the last of them was killed
            count, why = line.split()
            taken += int(count)
            if why != "-":
                refused[why] = refused.get(why, 0) + 1
        print(json.dumps({"taken": taken, "refused": refused}), flush=True)
        sys.stdin.read()
    os.close(until[1])
    for child in begun:
        os.waitpid(child, 0)


def main(words: list[str]) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if words[0] == "--once":
        found = {}
        for name in words[1:]:
            held.clear()
            found[name] = _try(TAKES[name], 1)[1] or "ok"
        print(json.dumps(found))
    else:
        attack(words[0], int(words[1]), int(words[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
