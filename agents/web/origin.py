"""Where a request comes from, by the browser's own word: pure functions over its headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
OURS: Final = frozenset({"same-origin", "none"})  # Sec-Fetch-Site of our own pages, and of the person at the browser

Headers = Iterable[tuple[bytes, bytes]]


def same_origin(headers: Headers, *, scheme: str) -> bool:
    """Whether the page that asks has exactly the address that it asks: scheme, host and port.

    `scheme` is that of the request: http, https, ws or wss. No Origin, two of them, or `null` is no.
    """
    origins = [value for name, value in headers if name == b"origin"]
    hosts = [value for name, value in headers if name == b"host"]
    if len(origins) != 1 or len(hosts) != 1:
        return False
    page = "https" if scheme in {"wss", "https"} else "http"
    asked = _place(origins[0].decode("latin-1"))
    return asked is not None and asked == _place(f"{page}://{hosts[0].decode('latin-1')}")


def fetched_here(headers: Headers) -> bool:
    """False where the browser says that another origin's page makes the request; older browsers say nothing.

    Another port of this host is `same-site`: no cookie's SameSite keeps it out.
    """
    return all(value.decode("latin-1") in OURS for name, value in headers if name == b"sec-fetch-site")


def referred_from(referer: str) -> bytes:
    """The origin of the page that `referer` names, or nothing."""
    try:
        parts = urlsplit(referer)
    except ValueError:
        return b""
    return f"{parts.scheme}://{parts.netloc}".encode("latin-1", "replace") if parts.netloc else b""


def times_sent(headers: Headers, cookie: str) -> int:
    """How many cookies called `cookie` a request carries."""
    lines = (value.decode("latin-1") for name, value in headers if name == b"cookie")
    return sum(part.partition("=")[0].strip() == cookie for line in lines for part in line.split(";"))


def _place(url: str) -> tuple[str, str, int] | None:
    """Scheme, host, port of an origin; None where it is anything else."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    bare = not (parts.path or parts.query or parts.fragment or parts.username is not None or parts.password is not None)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or not bare or url.endswith(("?", "#")):
        return None
    return parts.scheme, parts.hostname, DEFAULT_PORTS[parts.scheme] if port is None else port
