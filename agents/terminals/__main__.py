"""`python -m agents.terminals`: the process that owns the terminals' streams, on two sockets that it inherits."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import sys

from agents.terminals.server import serve


def inherited(variable: str, kind: socket.SocketKind) -> socket.socket:
    """The listening unix socket whose descriptor `variable` names."""
    try:
        found = socket.socket(fileno=int(os.environ[variable]))
    except (KeyError, ValueError, OSError) as error:
        sys.exit(f"terminals: {variable} has to name an inherited listening socket: {error}")
    if found.family != socket.AF_UNIX or found.type != kind:
        sys.exit(f"terminals: {variable} has to be a unix socket of type {kind.name}, not {found.family}, {found.type}")
    found.set_inheritable(False)
    return found


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(
        feed_listener=inherited("JACKIN_FD_FEED", socket.SOCK_SEQPACKET),
        viewer_listener=inherited("JACKIN_FD_TERMINALS", socket.SOCK_STREAM),
        stop=stop,
    )


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main())
