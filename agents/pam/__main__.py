"""`python3 -m agents.pam`: serve on the socket whose number is in JACKIN_FD_PAM, with the module of JACKIN_PAMELA."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from pathlib import Path

from agents.broker import syscalls
from agents.host.shell import HostError
from agents.pam.check import Check, checker, load
from agents.pam.server import Server

log = logging.getLogger("agents.pam")


def main() -> int:
    """Run until SIGTERM or SIGINT. Returns 2 when it was started wrongly."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s pam: %(message)s", stream=sys.stderr)
    number = os.environ.get("JACKIN_FD_PAM", "")
    if os.geteuid() != 0 or not number.isdecimal():
        print("pam: it is started by scripts/serve, as root, with JACKIN_FD_PAM set.", file=sys.stderr)
        return 2
    os.umask(0o077)
    os.chdir("/")
    syscalls.make_undumpable()
    stop, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: os.write(writer, b"\0"))
    listener = socket.socket(fileno=int(number))
    listener.set_inheritable(False)
    check = _check()
    log.info("serving" if check else "serving refusals only")
    Server(listener, check).run(stop=stop)
    return 0


def _check() -> Check | None:
    """None where PAM cannot be asked: that must not stop the whole service."""
    try:
        return checker(load(Path(os.environ["JACKIN_PAMELA"]).resolve()))
    except (KeyError, OSError, ImportError, HostError) as error:
        log.error("passwords of Unix accounts cannot be checked: %s", error)
        return None


if __name__ == "__main__":
    sys.exit(main())
