"""`python -m agents.archiver`: keep snapshots in $JACKIN_DATA/snapshots, on the socket in JACKIN_FD_ARCHIVER."""

from __future__ import annotations

import logging
import os
import pwd
import socket
import sys
from pathlib import Path

from agents.archiver.server import Server
from agents.archiver.store import Store

ALLOWED = ("root", "jackin-run")


def main() -> int:
    """Serve until it is ended. Returns 2 when it was started wrongly."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    number, data = os.environ.get("JACKIN_FD_ARCHIVER", ""), os.environ.get("JACKIN_DATA", "")
    if os.geteuid() == 0 or not number.isdecimal() or not data.startswith("/"):
        print("archiver: it is started by scripts/serve, as an account of its own.", file=sys.stderr)
        return 2
    os.umask(0o077)
    listener = socket.socket(fileno=int(number))
    listener.set_inheritable(False)
    store = Store(Path(data) / "snapshots")
    store.clean_up()
    allowed = frozenset(entry.pw_uid for entry in pwd.getpwall() if entry.pw_name in ALLOWED)
    Server(listener, store, allowed=allowed).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
