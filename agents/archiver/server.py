"""Answers on the archiver's socket: one thread for each connection, one request on it."""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from agents.archiver import stream
from agents.archiver.store import KEY, Store
from agents.archiver.stream import Problem
from agents.broker import wire

log = logging.getLogger(__name__)

SECONDS_TO_TALK = 10.0
SECONDS_TO_COMMIT = 1000.0  # the one who streams is the first to give up
MOST_CONNECTIONS = 32
MOST_LISTED = 5000
TELL_EVERY = 0.3
_CREDENTIALS = struct.Struct("iII")

Message = dict[str, Any]


class Server:
    """Serves `listener` to the uids in `allowed`."""

    def __init__(self, listener: socket.socket, store: Store, *, allowed: frozenset[int]) -> None:
        self._listener = listener
        self._store = store
        self._allowed = allowed
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def run(self) -> None:
        """Until the process ends; what is half made then is removed at the next start."""
        while True:
            connection, _ = self._listener.accept()
            if self._welcome(connection):
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            else:
                connection.close()

    def _welcome(self, connection: socket.socket) -> bool:
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(found)
        if uid not in self._allowed:
            log.warning("refusing a connection of uid %d", uid)
            return False
        return self._places.acquire(blocking=False)

    def _serve(self, connection: socket.socket) -> None:
        descriptors: list[int] = []
        try:
            connection.settimeout(SECONDS_TO_TALK)
            Conversation(connection, self._store, descriptors).run()
        except OSError as error:
            log.info("a connection ended early: %s", error)
        except Exception:
            log.exception("a request failed")
        finally:
            for fd in descriptors:
                os.close(fd)
            connection.close()
            self._places.release()


class Conversation:
    """One request and its answer; while a stream goes on, its size is told now and then."""

    def __init__(self, connection: socket.socket, store: Store, descriptors: list[int]) -> None:
        self._connection = connection
        self._store = store
        self._descriptors = descriptors
        self._told = 0.0
        self._answers: Mapping[str, Callable[[Message], Message]] = {
            "store": self._keep,
            "give": self._give,
            "verify": lambda asked: {"manifest": store.verify(_key(asked))},
            "manifest": lambda asked: {"manifest": store.manifest(_key(asked))},
            "remove": lambda asked: {"removed": store.remove(_key(asked))},
            "list": self._list,
        }

    def run(self) -> None:
        """Read the request and answer it."""
        try:
            asked = self._request()
            answer = self._answers.get(str(asked.get("op")))
            if answer is None:
                raise Problem("bad-request", "There is no such request.")
            reply: Message = {"ok": True} | answer(asked)
        except Problem as problem:
            log.info("refused: %s: %s", problem.code, problem.message)
            reply = {"ok": False, "code": problem.code, "message": problem.message}
        except BrokenPipeError:
            reply = {"ok": False, "code": "hung-up", "message": "The other end of the pipe was closed."}
        self._drop_descriptors()
        wire.send(self._connection, reply)

    def _request(self) -> Message:
        """With the descriptors that came with its first byte."""
        head = wire.piece_with_descriptors(self._connection, wire.HEADER.size, self._descriptors)
        while len(head) < wire.HEADER.size:
            more = self._connection.recv(wire.HEADER.size - len(head))
            if not more:
                raise wire.WireError("closed before its request was complete")
            head += more
        length = wire.body_length(head, most=wire.MOST_REQUEST)
        body = bytearray()
        while len(body) < length:
            more = self._connection.recv(length - len(body))
            if not more:
                raise wire.WireError("closed before its request was complete")
            body += more
        asked = wire.decode(bytes(body))
        if len(self._descriptors) != (asked.get("op") in ("store", "give")):
            raise Problem("bad-request", "This request comes with another number of descriptors.")
        return asked

    def _keep(self, asked: Message) -> Message:
        """Fill a draft from the pipe; the client then says what it is (`keep`), or goes away: then it is nothing."""
        with self._store.draft(_key(asked)) as draft:
            draft.fill(self._descriptors[0], received=self._tell, hangup=self._connection.fileno())
            self._drop_descriptors()
            wire.send(self._connection, {"event": "filled"})
            self._connection.settimeout(SECONDS_TO_COMMIT)
            said = wire.receive(self._connection, most=wire.MOST_REQUEST)
            if said.get("op") != "keep" or not isinstance(said.get("manifest"), dict):
                raise Problem("bad-request", "It was not said what this snapshot is.")
            return {"manifest": draft.keep(said["manifest"], wanted=self._check_client)}

    def _check_client(self) -> None:
        """Raises BrokenPipeError when nobody waits for the answer any more."""
        if stream.hung_up(self._connection.fileno()):
            raise BrokenPipeError("the client went away")

    def _give(self, asked: Message) -> Message:
        target, hangup = self._descriptors[0], self._connection.fileno()
        return {"manifest": self._store.give(_key(asked), target, sent=self._tell, hangup=hangup)}

    def _list(self, asked: Message) -> Message:
        after = asked.get("after", "")
        keys, more = self._store.keys(after=after if isinstance(after, str) else "", most=MOST_LISTED)
        return {"keys": keys, "more": more}

    def _tell(self, count: int) -> None:
        if time.monotonic() - self._told > TELL_EVERY:
            self._told = time.monotonic()
            wire.send(self._connection, {"event": "progress", "bytes": count})

    def _drop_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


def _key(asked: Message) -> str:
    key = asked.get("key")
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise Problem("bad-request", "“key” has to be 32 hexadecimal digits.")
    return key
