"""`python3 -m agents.broker`: serve on the listening socket whose number is in JACKIN_FD_BROKER."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys

from agents.broker import archive, mounts, syscalls
from agents.broker.config import Config
from agents.broker.server import Server
from agents.host.instance import BadInstance, Instance

log = logging.getLogger("agents.broker")


def main() -> int:
    """Run until SIGTERM or SIGINT. Returns 2 when it was started wrongly."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s broker: %(message)s", stream=sys.stderr)
    number = os.environ.get("JACKIN_FD_BROKER", "")
    if os.geteuid() != 0 or not number.isdecimal():
        print("broker: it is started by scripts/serve, as root, with JACKIN_FD_BROKER set.", file=sys.stderr)
        return 2
    try:
        config = Config.from_instance(Instance.from_env())
        listener = socket.socket(fileno=int(number))
    except (BadInstance, OSError) as error:
        print(f"broker: {error}", file=sys.stderr)
        return 2
    listener.set_inheritable(False)
    os.umask(0o077)
    os.chdir("/")
    _raise_open_files()
    syscalls.make_undumpable()
    syscalls.become_subreaper()
    mounts.clean_up(config)
    archive.clean_up(config)
    server = Server(listener, config)
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, server.stop)
    log.info("serving %s", config.data)
    server.run()
    return 0


def _raise_open_files() -> None:
    """Room for all connections and workers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
