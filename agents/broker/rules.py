"""Rules that need nothing but the text of a path: what a source may be called, where a destination may lie."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from agents.broker.mountinfo import inside
from agents.broker.protocol import MOST_COMPONENT, MOST_PATH, Mount, Refusal

FILE_SYSTEMS = ("ext4", "xfs", "btrfs", "f2fs", "tmpfs")

# Never a source, nor is anything below.
_REFUSED_TREES = {
    "/proc": "it belongs to the kernel",
    "/sys": "it belongs to the kernel",
    "/dev": "it holds devices",
    "/run": "it holds the sockets of running services",
    "/var/run": "it holds the sockets of running services",
    "/boot": "it belongs to the system",
    "/etc": "it holds the configuration of the system",
}
# Themselves refused; below them, only what belongs to the owner.
SHARED_PLACES = ("/tmp", "/var/tmp")  # noqa: S108

_SYSTEM_TREES = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "boot", "etc", "var")
_SYSTEM = "the container's system lies there"
_RESERVED = {
    **{f"/{name}": _SYSTEM for name in _SYSTEM_TREES},
    **{f"/{name}": "the container's kernel interfaces lie there" for name in ("proc", "sys", "dev")},
    "/run": "the agent's gate and secrets lie there",
    "/jackin": "the agent's entrypoint lies there",
    "/root": _SYSTEM,
}
# Themselves reserved; what lies below may be used.
_RESERVED_ALONE = {
    "/home": "the agent's home lies below it",
    "/home/claude": "it is the agent's home",
    "/tmp": "programs keep their temporary files there",  # noqa: S108
}


def check_text(path: str) -> None:
    """Refuse what is no plain absolute path: `not-absolute dot-dot control-characters too-long`."""
    if any(_unwanted(character) for character in path):
        raise Refusal("control-characters", path=path)
    parts = path.split("/")
    if len(path.encode()) >= MOST_PATH:
        raise Refusal("too-long", size=len(path.encode()), most=MOST_PATH - 1)
    if longest := max((len(part.encode()) for part in parts if len(part.encode()) > MOST_COMPONENT), default=0):
        raise Refusal("too-long", size=longest, most=f"{MOST_COMPONENT} between two slashes")
    if not path.startswith("/"):
        raise Refusal("not-absolute", path=path)
    if ".." in parts or "." in parts:
        raise Refusal("dot-dot", path=path)


def _unwanted(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def plain(path: str) -> str:
    """`path` (which passed check_text) without double and trailing slashes."""
    return "/" + "/".join(part for part in path.split("/") if part)


def check_source_text(path: str) -> str:
    """The plain form of a source; refuses text that is no path and trees that are never mounted."""
    check_text(path)
    source = plain(path)
    check_refused_tree(source, asked=source)
    return source


def check_refused_tree(path: str, *, asked: str) -> None:
    """Refuse `path` if it is or lies in what is never mounted; `asked` is named in the message."""
    if path == "/":
        raise Refusal("refused-source", path=asked, reason="it is the whole machine")
    for tree, reason in _REFUSED_TREES.items():
        if inside(path, tree):
            why = reason if path == tree else f"{tree} is never mounted, as {reason}"
            raise Refusal("refused-source", path=asked, reason=why)
    if path in SHARED_PLACES:
        reason = "other people's files and sockets lie there too; a directory of your own below it is fine"
        raise Refusal("refused-source", path=asked, reason=reason)


def check_destination(path: str) -> str:
    """The destination of a mount; it must be plain already, as Docker gets it literally."""
    try:
        check_text(path)
    except Refusal as refusal:
        raise Refusal("destination-bad", path=path, reason=_destination_reason(refusal)) from None
    if path == "/":
        raise Refusal("destination-refused", path=path, reason="it would hide the whole container")
    if path != plain(path):
        raise Refusal("destination-bad", path=path, reason=f"write it as {plain(path)}")
    for tree, reason in _RESERVED.items():
        if inside(path, tree):
            raise Refusal("destination-refused", path=path, reason=reason)
    if path in _RESERVED_ALONE:
        raise Refusal("destination-refused", path=path, reason=_RESERVED_ALONE[path])
    return path


def _destination_reason(refusal: Refusal) -> str:
    return {
        "not-absolute": "it is not an absolute path",
        "dot-dot": "it contains “..” or “.” as a part",
        "control-characters": "it contains characters that cannot be shown",
    }.get(refusal.code, "it is too long")


def check_destinations(mounts: Sequence[Mount]) -> dict[int, Refusal]:
    """The refusals among the destinations, by position; of two equal ones the later is refused."""
    refused: dict[int, Refusal] = {}
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        try:
            destination = check_destination(mount.destination)
            if destination in seen:
                raise Refusal("destination-twice", path=destination)
            seen.add(destination)
        except Refusal as refusal:
            refused[index] = refusal.at(index)
    return refused
