"""DNS messages and a small resolver for tests."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

Answer = Callable[[bytes], list[bytes]]


def question(name: str, *, kind: int = 1, family: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return labels + b"\0" + struct.pack(">HH", kind, family)


def query(name: str, *, number: int = 7, kind: int = 1, family: int = 1, flags: int = 0x0100) -> bytes:
    return struct.pack(">HHHHHH", number, flags, 1, 0, 0, 0) + question(name, kind=kind, family=family)


def answer(asked: bytes, address: str = "192.0.2.77", *, number: int | None = None) -> bytes:
    """One A record for what `asked` asks."""
    found = int.from_bytes(asked[:2], "big") if number is None else number
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
    return struct.pack(">HHHHHH", found, 0x8180, 1, 1, 0, 0) + _question_of(asked) + record


def _question_of(asked: bytes) -> bytes:
    at = 12
    while asked[at]:
        at += 1 + asked[at]
    return asked[12 : at + 5]


def code(message: bytes) -> int:
    """The response code."""
    return message[3] & 0x0F


class Resolver:
    """Answers over UDP and TCP on one address and keeps what it was asked, with the port of the asker."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0, *, answers: Answer | None = None) -> None:
        self.asked: list[tuple[bytes, int]] = []
        self._answers = answers or (lambda message: [answer(message)])
        self.tcp = socket.create_server((address, port))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((address, self.port))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._over_udp, self._over_tcp)]

    def _over_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                message, peer = self.udp.recvfrom(65535)
                if not message:
                    return
                self.asked.append((message, peer[1]))
                for one in self._answers(message):
                    self.udp.sendto(one, peer)

    def _over_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self.tcp.accept()
                with connection:
                    message = receive(connection)
                    if not message:
                        return
                    self.asked.append((message, peer[1]))
                    for one in self._answers(message):
                        connection.sendall(len(one).to_bytes(2, "big") + one)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.udp.getsockname())
        with socket.create_connection(self.tcp.getsockname()) as last:
            last.sendall(b"\0\0")
        for thread in self._threads:
            thread.join(5)
        self.udp.close()
        self.tcp.close()


def receive(connection: socket.socket) -> bytes:
    """One message of a TCP connection; empty when it ended."""
    with connection.makefile("rb") as stream:
        size = int.from_bytes(stream.read(2), "big")
        return stream.read(size)


@contextlib.contextmanager
def resolver(answers: Answer | None = None) -> Iterator[Resolver]:
    """A resolver on a free port of loopback."""
    made = Resolver(answers=answers)
    made.start()
    try:
        yield made
    finally:
        made.stop()
