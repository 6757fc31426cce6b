"""Listeners that write down every byte, and knocks on them, in whatever namespace or container a test puts them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence

from tests.support.machine import run
from tests.support.service import wait_for

PYTHON = "/usr/bin/python3"
WAYS = ("tcp", "udp")

# Self-contained: it runs with nothing but Python's standard library, in containers and build steps, too.
KNOCK = """
import select, socket, sys, time
who, targets = sys.argv[1], [one.split(",") for one in sys.argv[2:]]
pending = {}
for way, address, port in targets:
    kind = socket.SOCK_STREAM if way == "tcp" else socket.SOCK_DGRAM
    try:
        found = socket.getaddrinfo(address, int(port), type=kind, flags=socket.AI_NUMERICHOST)[0]
        sock = socket.socket(found[0], kind)
        sock.setblocking(False)
        word = f"{who} {way} {address} {port}".encode()
        if way == "udp":
            sock.sendto(word, found[4])
        elif sock.connect_ex(found[4]) in (0, 11, 115):
            pending[sock] = word
    except OSError as error:
        print(way, address, port, error, flush=True)
end = time.monotonic() + 1.5
while pending and time.monotonic() < end:
    for sock in select.select([], list(pending), [], 0.1)[1]:
        word = pending.pop(sock)
        try:
            sock.send(word)
        except OSError as error:
            print(word, error, flush=True)
print("knocked", flush=True)
"""

LISTEN = """
import json, select, socket, sys
ears, talks = {}, {}
for spec in sys.argv[1:]:
    address, port = spec.split(",")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = socket.getaddrinfo(address, int(port), family, flags=socket.AI_NUMERICHOST)[0][4]
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        ear = socket.socket(family, kind)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        ear.bind(where)
        if kind == socket.SOCK_STREAM:
            ear.listen(64)
        ears[ear] = kind
def heard(way, peer, said):
    print(json.dumps({"way": way, "peer": peer, "said": said.decode(errors="replace")}), flush=True)
print("listening", flush=True)
while True:
    for ear in select.select([*ears, *talks], [], [])[0]:
        if ear in talks:
            try:
                said = ear.recv(4096)
            except OSError:
                said = b""
            if said:
                heard("tcp", talks[ear], said)
            else:
                talks.pop(ear)
                ear.close()
        elif ears[ear] == socket.SOCK_STREAM:
            talk, peer = ear.accept()
            talks[talk] = peer[0]
            heard("tcp", peer[0], b"connected")
        else:
            said, peer = ear.recvfrom(4096)
            heard("udp", peer[0], said)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
    """One thing that a listener heard: `said` is `WHO WAY ADDRESS PORT`, or `connected` for a bare connection."""

    way: str
    peer: str
    said: str


class Ears:
    """A process that listens; what it heard so far."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.heard: list[Heard] = []
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        assert self._lines.readline() == "listening\n"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._lines:
            self.heard.append(Heard(**json.loads(line)))

    def of(self, who: str) -> set[str]:
        """What `who` said here: `WAY ADDRESS PORT` each."""
        return {one.said.removeprefix(f"{who} ") for one in [*self.heard] if one.said.startswith(f"{who} ")}

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)
        self._lines.close()


@contextlib.contextmanager
def ears(inside: Sequence[str], places: Iterable[tuple[str, int]]) -> Iterator[Ears]:
    """Listen on each (address, port) over TCP and UDP, where the command prefix `inside` leads to."""
    made = Ears([*inside, PYTHON, "-u", "-c", LISTEN, *(f"{address},{port}" for address, port in places)])
    try:
        yield made
    finally:
        made.stop()


def words(who: str, places: Iterable[tuple[str, int]]) -> list[str]:
    """Arguments of KNOCK for each (address, port), over TCP and UDP."""
    return [who, *(f"{way},{address},{port}" for address, port in places for way in WAYS)]


def knock(inside: Sequence[str], who: str, places: Iterable[tuple[str, int]]) -> None:
    """Knock on each place from where the command prefix `inside` leads to; failures to send are no failure."""
    assert "knocked" in run(*inside, PYTHON, "-c", KNOCK, *words(who, places))


def said(places: Iterable[tuple[str, int]]) -> set[str]:
    """What `Ears.of` holds when every knock on `places` was heard."""
    return {f"{way} {address} {port}" for address, port in places for way in WAYS}


def hears(listener: Ears, who: str, places: Sequence[tuple[str, int]]) -> None:
    """The positive control: every one of `places` was heard from `who`."""
    wait_for(f"{who} to be heard on {places}", lambda: said(places) <= listener.of(who), seconds=5)
