"""Whom agents ask for names: the host's name servers, or the forwarder where agents cannot reach those."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from pathlib import Path

from agents.host.instance import Instance
from agents.host.settings import write_private

NOTE = "names.json"
RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
MOST = 3  # as the C library

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclasses.dataclass(frozen=True, kw_only=True)
class Names:
    """`servers` is what containers are told; `upstreams` is what the forwarder asks, empty where none is needed."""

    servers: tuple[str, ...]
    upstreams: tuple[str, ...] = ()


def resolvers(text: str) -> list[IPAddress]:
    """The name servers of a resolv.conf; a link-local IPv6 one keeps its interface."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(ipaddress.ip_address(words[1]))
            except ValueError:
                continue
    return found


def reachable_resolvers(text: str, own: tuple[ipaddress.IPv4Address, ...]) -> tuple[str, ...]:
    """The name servers of a resolv.conf that an agent can reach: not the host, not link-local, not over IPv6."""
    found = [a for a in resolvers(text) if a.version == 4 and a not in own]
    return tuple(str(a) for a in found if not (a.is_loopback or a.is_unspecified or a.is_link_local))


def choose(
    *, own: tuple[ipaddress.IPv4Address, ...], inner: ipaddress.IPv4Address, files: tuple[Path, ...] = RESOLV_CONF
) -> Names:
    """The host's name servers; where agents reach none of them, those that systemd-resolved asks; else the forwarder.

    `own` are the host's addresses; the forwarder listens on `inner`. A host without a name server has no names.
    """
    texts = [_text(file) for file in files]
    for text in texts:
        if reachable := reachable_resolvers(text, own):
            return Names(servers=reachable)
    local = tuple(str(address) for address in resolvers(texts[0])[:MOST])
    return Names(servers=(str(inner),) if local else (), upstreams=local)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def note(instance: Instance, names: Names) -> None:
    """Write down for guard, doctor and supervisor whether the forwarder is needed."""
    write_private(instance.host_dir / NOTE, json.dumps({"upstreams": names.upstreams}).encode())


def noted_upstreams(instance: Instance) -> tuple[str, ...]:
    """What the forwarder asks, as chosen when the engine was started; empty where there is none."""
    try:
        found = json.loads((instance.host_dir / NOTE).read_text())["upstreams"]
        return tuple(str(ipaddress.ip_address(one)) for one in found)
    except (OSError, ValueError, KeyError, TypeError):
        return ()
