"""Which Unix account of this machine a connection comes from: a session is good for that one only.

Cookies ignore ports: another account's web server on this host receives ours, and may set one. What it cannot do is
connect as its visitor: the kernel knows whose socket the other end is. `ssh -L` connects as the person too.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from django.http import HttpRequest

BOUND: Final = "peer"  # where a session keeps it
ELSEWHERE: Final = "elsewhere"  # another machine, or no TCP at all
NOBODY: Final = "nobody"  # of this machine, but gone already
TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED: Final = "01"  # in every later state the kernel may say 0, root, for a socket that was let go
UID: Final = 3  # its place among what follows the state

End = Sequence[Any] | None  # address and port


def fits(bound: str | None, now: str) -> bool:
    """Whether a session that was bound to `bound` may be used from `now`."""
    return bound is None or (bound == now != NOBODY)


def of_request(request: HttpRequest) -> str:
    """The account at the other end of a page's connection."""
    meta = request.META
    client = (meta.get("REMOTE_ADDR"), meta.get("REMOTE_PORT"))
    return of(client, (meta.get("SERVER_NAME"), meta.get("SERVER_PORT")))


def of(client: End, server: End) -> str:
    """`uid N` for a process of this machine, else ELSEWHERE or NOBODY."""
    try:
        there, here = _end(client), _end(server)
    except (ValueError, TypeError, IndexError):
        return ELSEWHERE
    for _ in range(2):  # while connections come and go, one may slip through a reading of the table
        for found in (_uid(there, here), _uid(_mapped(there), _mapped(here))):
            if found is not None:
                return f"uid {found}"
    return NOBODY if there[0].is_loopback else ELSEWHERE


Place = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]


def _end(end: End) -> Place:
    if end is None:
        raise ValueError("no address")
    address = ipaddress.ip_address(end[0])
    plain = getattr(address, "ipv4_mapped", None)
    return plain or address, int(end[1])


def _mapped(place: Place) -> Place:
    """As a program that speaks IPv6 only is listed."""
    address, port = place
    return (ipaddress.ip_address(f"::ffff:{address}") if address.version == 4 else address), port


def _uid(there: Place, here: Place) -> int | None:
    table = TABLES[0] if there[0].version == 4 else TABLES[1]
    try:
        _, found, rest = table.read_text().partition(f" {_shown(there)} {_shown(here)} {ESTABLISHED} ")
    except OSError:
        return None
    return int(rest.split(maxsplit=UID + 1)[UID]) if found else None


def _shown(place: Place) -> str:
    """As in /proc/net/tcp: words of 32 bits in the machine's order, in hexadecimal (Linux, net/ipv4/tcp_ipv4.c)."""
    packed = place[0].packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{place[1]:04X}"
