"""Carries the DNS questions of agents to the host's own resolver, without rights, sockets or files of the service.

It inherits two sockets that are bound in the agents' namespace and asks through sockets of its own in the host's. Each
question gets a socket, a source port and an id of its own, so that an answer belongs to exactly one asker.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

from agents.host import dns_messages
from agents.host.dns_messages import MOST_TCP, MOST_UDP, Query

log = logging.getLogger(__name__)

PORT = 53
TRY_SECONDS = 2.5  # for one upstream
CLIENT_SECONDS = 10.0  # that a TCP client may take for one question, or be idle
MOST_AT_ONCE, MOST_PER_CLIENT = 256, 32  # questions over UDP
MOST_CONNECTIONS, MOST_CONNECTIONS_PER_CLIENT = 64, 8
PER_WAKE = 64  # datagrams read before others get their turn

Address = tuple[str, int]


class Shares:
    """Bounds what all clients together, and each of them, may have in hand."""

    def __init__(self, *, most: int, per_client: int) -> None:
        self._most, self._per_client = most, per_client
        self._all = 0
        self._of: collections.Counter[str] = collections.Counter()

    def take(self, client: str) -> bool:
        """Whether one more may begin; then `give_back` must follow."""
        if self._all >= self._most or self._of[client] >= self._per_client:
            return False
        self._all += 1
        self._of[client] += 1
        return True

    def give_back(self, client: str) -> None:
        self._all -= 1
        self._of[client] -= 1
        if not self._of[client]:
            del self._of[client]


class Forwarder:
    """Serves one UDP and one TCP socket; `upstreams` are the only ones that are ever asked."""

    def __init__(self, upstreams: Sequence[str], *, port: int = PORT) -> None:
        self._upstreams = [upstream(address, port) for address in upstreams]
        self._questions = Shares(most=MOST_AT_ONCE, per_client=MOST_PER_CLIENT)
        self._connections = Shares(most=MOST_CONNECTIONS, per_client=MOST_CONNECTIONS_PER_CLIENT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, udp: socket.socket, tcp: socket.socket, *, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        udp.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(udp, self._read, udp)
        server = await asyncio.start_server(self._connection, sock=tcp)
        try:
            await stop.wait()
        finally:
            loop.remove_reader(udp)
            server.close()
            tasks = [*self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # Over UDP

    def _read(self, udp: socket.socket) -> None:
        for _ in range(PER_WAKE):
            try:
                message, client = udp.recvfrom(MOST_UDP + 1)
            except OSError:
                return
            query = dns_messages.read_query(message) if len(message) <= MOST_UDP else None
            if query is not None and self._questions.take(client[0]):
                task = asyncio.get_running_loop().create_task(self._answer(udp, query, client))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, udp: socket.socket, query: Query, client: Address) -> None:
        try:
            answer = await self._ask(query, most=MOST_UDP)
            with contextlib.suppress(OSError):
                udp.sendto(answer, client)
        finally:
            self._questions.give_back(client[0])

    # Over TCP

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        client = peer[0] if peer else ""
        if not self._connections.take(client):
            writer.transport.abort()
            return
        try:
            while await self._exchange(reader, writer):
                continue
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            self._connections.give_back(client)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One question and its answer; False ends the connection."""
        async with asyncio.timeout(CLIENT_SECONDS):
            query = dns_messages.read_query(await _read_message(reader))
        if query is None:
            return False
        answer = await self._ask(query, most=MOST_TCP)
        writer.write(len(answer).to_bytes(2, "big") + answer)
        async with asyncio.timeout(CLIENT_SECONDS):
            await writer.drain()
        return True

    # The host's resolver

    async def _ask(self, query: Query, *, most: int) -> bytes:
        """The answer of the first upstream that gives one, under the client's id; else that none did."""
        if not query.allowed:
            return query.refusal(dns_messages.REFUSED)
        ask = ask_udp if most == MOST_UDP else ask_tcp
        for family, address in self._upstreams:
            number = secrets.randbelow(1 << 16)
            try:
                async with asyncio.timeout(TRY_SECONDS):
                    return query.answer(await ask(family, address, query, number), most=most)
            except (OSError, EOFError, TimeoutError):
                continue
        return query.refusal(dns_messages.SERVER_FAILURE)


def upstream(address: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]:
    """Family and socket address; a link-local IPv6 address carries its interface."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return socket.AF_INET, (str(found), port)
    scope = found.scope_id or "0"
    number = int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    return socket.AF_INET6, (str(found).partition("%")[0], port, 0, number)


@contextlib.contextmanager
def _socket(family: socket.AddressFamily, kind: socket.SocketKind) -> Iterator[socket.socket]:
    with socket.socket(family, kind) as sock:
        sock.setblocking(False)
        yield sock


async def ask_udp(family: socket.AddressFamily, address: tuple[object, ...], query: Query, number: int) -> bytes:
    """Ask from a port of its own, that takes datagrams of this upstream only; wrong answers are passed over."""
    loop = asyncio.get_running_loop()
    with _socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        await loop.sock_sendall(sock, query.numbered(number))
        while True:
            answer = await loop.sock_recv(sock, MOST_TCP)
            if query.answered_by(answer, number=number):
                return answer


async def ask_tcp(family: socket.AddressFamily, address: tuple[object, ...], query: Query, number: int) -> bytes:
    """The same over a connection of its own."""
    loop = asyncio.get_running_loop()
    with _socket(family, socket.SOCK_STREAM) as sock:
        await loop.sock_connect(sock, address)
        message = query.numbered(number)
        await loop.sock_sendall(sock, len(message).to_bytes(2, "big") + message)
        size = int.from_bytes(await _receive(sock, 2), "big")
        answer = await _receive(sock, size)
        if not query.answered_by(answer, number=number):
            raise EOFError
        return answer


async def _receive(sock: socket.socket, size: int) -> bytes:
    loop, found = asyncio.get_running_loop(), bytearray()
    while len(found) < size:
        piece = await loop.sock_recv(sock, size - len(found))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(2), "big")
    return await reader.readexactly(size)


async def serve(upstreams: Sequence[str], udp: socket.socket, tcp: socket.socket) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Forwarder(upstreams).run(udp, tcp, stop=stop)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    udp, tcp = (socket.socket(fileno=int(os.environ[f"JACKIN_FD_DNS_{kind}"])) for kind in ("UDP", "TCP"))
    upstreams = os.environ["JACKIN_DNS_UPSTREAMS"].split()
    log.info("asking %s", ", ".join(upstreams))
    asyncio.run(serve(upstreams, udp, tcp))
    return 0


if __name__ == "__main__":
    sys.exit(main())
