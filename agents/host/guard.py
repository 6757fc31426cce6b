"""Watches the firewall as root: looks every 25 s and before each launch, puts back what is missing, writes it down."""

from __future__ import annotations

import datetime
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.broker import wire
from agents.host import netns
from agents.host.firewall import Firewall
from agents.host.instance import Instance
from agents.host.settings import write_private
from agents.host.shell import HostError

log = logging.getLogger(__name__)

EVERY = 25.0  # a repair takes its time, too: what was emptied is back within 30 s
CLIENT_SECONDS = 2.0
MOST_HISTORY = 100
NOTE = "firewall-history.json"
REMEDY = "Look at `manage.py doctor` as root; no agent starts until the rules stand."


class Guard:
    """Holds the rules of one instance; `history` is what had to be repaired, newest last."""

    def __init__(self, ensure: Callable[[], str], note: Path) -> None:
        self._ensure = ensure
        self._note = note
        try:
            self.history: list[dict[str, str]] = json.loads(note.read_text())[-MOST_HISTORY:]
        except (OSError, ValueError):
            self.history = []

    def look(self) -> str:
        """Check, repair, record; returns what is wrong and stays wrong, or an empty string."""
        try:
            repaired = self._ensure()
        except (HostError, OSError, ValueError) as error:
            message = str(error).splitlines()[0]
            log.error("the firewall is not complete: %s", message)
            self._record(f"not repaired: {message}")
            return message
        if repaired:
            log.warning("firewall: %s; set again", repaired)
            self._record(repaired)
        return ""

    def _record(self, what: str) -> None:
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.history = [*self.history, {"at": at, "what": what}][-MOST_HISTORY:]
        write_private(self._note, json.dumps(self.history).encode())

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to one request."""
        if set(request) - {"v", "op"} or request.get("v", 1) != 1:
            return _refusal("bad-request", "The guard knows `v` and `op` and nothing else.")
        match request.get("op"):
            case "network_ready":
                problem = self.look()
                return _refusal("firewall", f"The firewall is not complete: {problem}") if problem else {"ok": True}
            case "history":
                return {"ok": True, "history": self.history}
        return _refusal("bad-request", f"The guard knows no {request.get('op')!r}.")


def _refusal(code: str, message: str) -> dict[str, Any]:
    return {"ok": False, "code": code, "message": message, "remedy": REMEDY, "index": None}


def serve_one(guard: Guard, client: socket.socket) -> None:
    """One request, one reply; a slow or broken client is dropped."""
    with client:
        client.settimeout(CLIENT_SECONDS)
        try:
            wire.send(client, guard.answer(wire.receive(client, most=wire.MOST_REQUEST)))
        except OSError as error:  # WireError and TimeoutError are kinds of it
            log.info("a client went away: %s", error)


def run(guard: Guard, listening: socket.socket, *, stop: int) -> None:
    """Serve and look until `stop` becomes readable."""
    listening.setblocking(False)
    due = time.monotonic()
    while True:
        if time.monotonic() >= due:
            guard.look()
            due = time.monotonic() + EVERY
        ready = select.select([listening.fileno(), stop], [], [], max(0.0, due - time.monotonic()))[0]
        if stop in ready:
            return
        if ready:
            try:
                client, _ = listening.accept()
            except OSError:
                continue
            serve_one(guard, client)


def make_firewall(instance: Instance) -> Firewall:
    """The firewall of the namespace that is up. Raises HostError if there is none."""
    addresses = netns.noted(instance)
    if addresses is None or not netns.is_up(instance):
        raise HostError(f"The network namespace {instance.netns} is not there.")
    return Firewall(instance, addresses=addresses)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    instance = Instance.from_env()
    listening = socket.socket(fileno=int(os.environ["JACKIN_FD_GUARD"]))
    stop, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(writer, b"\0"))
    firewall = make_firewall(instance)
    firewall.ensure()  # this process takes over from `serve`: setting the same rules once more is no repair
    run(Guard(firewall.ensure, instance.host_dir / NOTE), listening, stop=stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
