"""A process that sends hostile messages to one unix socket and checks each answer: `python -m tests.support.fuzz …`."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pwd
import random
import socket
import struct
import sys
from collections.abc import Callable, Iterator

from tests.support.fuzz_messages import VALID, good_body, wrong_body

PATIENCE = 60.0
HELD = 2  # connections that say nothing more and stay open meanwhile
GOOD = 0.003  # of the framed messages: each of them costs a process
REFUSAL = {"ok", "code", "message", "remedy", "index"}
# May be answered with more than a refusal.
HARMLESS = {"links", "staged", "release", "unlink", "list_states", "history", "wake", "follow"}

HOW = {"whole": 70, "short": 6, "long": 6, "huge": 6, "twice": 6, "silent": 1, "fds": 5}  # in a hundred

Tally = collections.Counter[str]


class Wrong(AssertionError):
    """An answer that is no well-formed refusal."""


def connect(path: str, kind: socket.SocketKind) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, kind)
    client.settimeout(PATIENCE)
    client.connect(path)
    return client


def read_all(client: socket.socket) -> bytes:
    """Everything until the other side closes; a reset because it did not read to the end counts as closing."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            data += piece
    return bytes(data)


@contextlib.contextmanager
def descriptors(rng: random.Random) -> Iterator[list[int]]:
    """Some of this process's own: a pipe, a device, a file in memory, a directory, sockets."""
    makers: list[Callable[[], list[int]]] = [
        lambda: [*os.pipe()],
        lambda: [os.open("/dev/null", os.O_RDWR)],
        lambda: [os.memfd_create("fuzz")],
        lambda: [os.open("/", os.O_PATH)],
        lambda: [one.detach() for one in socket.socketpair()],
        lambda: [socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()],
    ]
    made = [number for maker in rng.sample(makers, rng.randint(1, 3)) for number in maker()]
    try:
        yield made
    finally:
        for number in made:
            os.close(number)


# ── One framed request per connection: broker, guard, runner ─────────────────────────────────────


def framed(rng: random.Random, name: str, path: str, tally: Tally, held: collections.deque[socket.socket]) -> None:
    """Send one message, framed rightly or wrongly; read the answer, which must be a refusal or an end."""
    good = rng.random() < GOOD
    body = good_body(rng, name) if good else wrong_body(rng, name)
    frame = struct.pack(">I", len(body)) + body
    how = "good" if good else rng.choices([*HOW], [*HOW.values()])[0]
    if how == "short":
        frame = frame[: rng.randrange(len(frame))]
    elif how == "long":
        frame = struct.pack(">I", len(body) + rng.randint(1, 1000)) + body
    elif how == "huge":
        frame = struct.pack(">I", rng.choice([64 * 1024 + 1, 2**24, 2**31, 2**32 - 1])) + body
    elif how == "twice":
        frame += frame
    tally["sent"] += 1
    tally[how] += 1
    client = connect(path, socket.SOCK_STREAM)
    if how == "silent":
        client.send(frame[: rng.randrange(4)])
        held.append(client)
        if len(held) > HELD:
            held.popleft().close()
        return
    with client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if how == "fds":
                with descriptors(rng) as numbers:
                    socket.send_fds(client, [frame], numbers)
            else:
                client.sendall(frame)
            client.shutdown(socket.SHUT_WR)
        check_reply(read_all(client), body, tally)


def check_reply(reply: bytes, body: bytes, tally: Tally) -> None:
    if not reply:
        tally["closed"] += 1
        return
    (length,) = struct.unpack(">I", reply[:4])
    answer = json.loads(reply[4:])
    if length != len(reply) - 4 or not isinstance(answer, dict):
        raise Wrong(f"{body[:200]!r} was answered with {reply[:200]!r}")
    texts = (answer.get(one) for one in ("code", "message", "remedy"))
    if answer.get("ok") is False and answer.keys() == REFUSAL and all(isinstance(one, str) for one in texts):
        tally["refused"] += 1
        tally[f"code {answer['code']}"] += 1
    elif answer.get("ok") is True and json.loads(body).get("op") in HARMLESS:
        tally["answered"] += 1
    else:
        raise Wrong(f"{body[:200]!r} was answered with {answer}")


# ── Many frames per connection: the windows ──────────────────────────────────────────────────────


def window(rng: random.Random, name: str, path: str, tally: Tally, held: collections.deque[socket.socket]) -> None:
    """Attach, some frames that keep the protocol, one that does not; or no attach at all."""
    frames: list[bytes] = []
    key = f"{rng.getrandbits(128):032x}"
    if rng.random() < 0.7:
        frames.append(_control(VALID[name][0] | {"attach": key, "rows": rng.randint(1, 1000)}))
        for _ in range(rng.randint(0, 6)):
            resize = _control({"resize": [rng.randint(1, 1000), rng.randint(1, 1000)]})
            frames.append(rng.choice([resize, _frame(b"B", rng.randbytes(rng.randrange(200))), _control({"ack": 0})]))
    body = wrong_body(rng, name)
    frames.append(
        rng.choice(
            [
                _frame(b"J", body),
                _frame(b"J", body)[: rng.randrange(5 + len(body))],
                struct.pack(">cI", b"J", rng.choice([16 * 1024 + 1, 2**31, 2**32 - 1])) + body,
                struct.pack(">cI", b"B", 2**20 + 1) + body,
                _frame(bytes([rng.randrange(256)]), body),
                _control({"ack": rng.choice([1, 2**40, -1, True, 1.5, None, "1"])}),
                _control({"resize": rng.choice([[0, 0], [1001, 1], [1], [1, 2, 3], "80x24", [True, True], [1e3, 2]])}),
            ]
        )
    )
    tally["sent"] += len(frames)
    with connect(path, socket.SOCK_STREAM) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(b"".join(frames))
            client.shutdown(socket.SHUT_WR)
        _check_controls(read_all(client), tally)


def _frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">cI", kind, len(payload)) + payload


def _control(message: object) -> bytes:
    return _frame(b"J", json.dumps(message).encode())


def _check_controls(data: bytes, tally: Tally) -> None:
    while data:
        kind, length = struct.unpack(">cI", data[:5])
        payload, data = data[5 : 5 + length], data[5 + length :]
        if kind != b"J" or len(payload) != length or not isinstance(found := json.loads(payload), dict):
            raise Wrong(f"a frame of type {kind!r}: {payload[:200]!r}")
        tally["refused" if "refused" in found else "answered"] += 1


# ── Many messages per connection: the feed ───────────────────────────────────────────────────────


def fed(rng: random.Random, name: str, path: str, tally: Tally, held: collections.deque[socket.socket]) -> None:
    """Messages that keep the protocol, streams with strange descriptors among them; at last one that does not."""
    with connect(path, socket.SOCK_SEQPACKET) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(rng.randint(0, 4)):
            _feed_one(client, rng.choice([{"op": "hello"}, VALID[name][2] | {"agent": f"{rng.getrandbits(128):032x}"}]))
            tally["sent"] += 1
        if rng.random() < 0.2:
            with descriptors(rng) as numbers:
                socket.send_fds(client, [json.dumps(VALID[name][1]).encode()], numbers)
            _feed_one(client, VALID[name][2])
            tally["sent"] += 2
        body = wrong_body(rng, name) or b"{"
        tally["sent"] += 1
        if rng.random() < 0.2:
            with descriptors(rng) as numbers:
                socket.send_fds(client, [body], numbers)
        else:
            client.send((body + b" " * rng.choice([0, 0, 0, 70_000]))[:70_000])
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(65536):
            if json.loads(data)["event"] not in {"streams", "ended", "resize"}:
                raise Wrong(f"the feed said {data[:200]!r}")
            tally["answered"] += 1
        tally["closed"] += 1


def _feed_one(client: socket.socket, message: object) -> None:
    client.send(json.dumps(message).encode())


KINDS = {"broker": framed, "guard": framed, "runner": framed, "terminals": window, "feed": fed}


def main(name: str, path: str, user: str, seed: str, count: str) -> None:
    """Send at least `count` messages as `user`; print what happened."""
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    rng, tally = random.Random(int(seed)), Tally()
    held: collections.deque[socket.socket] = collections.deque()
    while tally["sent"] < int(count):
        KINDS[name](rng, name, path, tally, held)
    for client in held:
        client.close()
    print(json.dumps(tally))


if __name__ == "__main__":
    main(*sys.argv[1:])
