"""The root-owned copy of the code that every process of the service runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from agents.host import layout
from agents.host.instance import Instance
from agents.host.shell import HostError

PARTS = (
    "manage.py", "agents", "jackin_web", "templates", "static", "docker", "scripts", "docs", "pyproject.toml",
    "requirements.lock", "package.json", "package-lock.json", "README.md", "LICENSE",
)  # fmt: skip
LEFT_OUT = frozenset({"__pycache__", "node_modules", "dist", ".git"})
KEEP = 2
HASH_DIGITS = 16
MOST_FILES = 20_000
MOST_BYTES = 200 * 1024 * 1024


def files(tree: Path) -> Iterator[tuple[str, bytes, bool]]:
    """Name, content and whether it is a program, of each file of the release in `tree`, in a fixed order.

    Raises HostError for what is neither file nor directory: a link would bring in something that nobody looked at.
    """
    for part in PARTS:
        if (tree / part).exists() or (tree / part).is_symlink():
            yield from _walk(tree, part)


def _walk(tree: Path, name: str) -> Iterator[tuple[str, bytes, bool]]:
    place = tree / name
    found = os.lstat(place)
    if stat.S_ISDIR(found.st_mode):
        for entry in sorted(os.listdir(place)):
            if entry not in LEFT_OUT and not entry.endswith(".pyc"):
                yield from _walk(tree, f"{name}/{entry}")
        return
    if not stat.S_ISREG(found.st_mode):
        raise HostError(f"{place} is neither a file nor a directory.", remedy="The code tree may hold nothing else.")
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        yield name, file.read(MOST_BYTES), bool(found.st_mode & stat.S_IXUSR)


def read(tree: Path) -> dict[str, tuple[bytes, bool]]:
    """The release in `tree`, read once: what is hashed is what is installed. Raises HostError if it is too big."""
    content: dict[str, tuple[bytes, bool]] = {}
    size = 0
    for name, data, program in files(tree):
        content[name] = (data, program)
        size += len(data)
        if len(content) > MOST_FILES or size > MOST_BYTES:
            raise HostError(f"{tree} holds more than a release may ({MOST_FILES} files, {MOST_BYTES >> 20} MiB).")
    if "manage.py" not in content:
        raise HostError(f"{tree} is no checkout of the service: manage.py is missing.")
    return content


def digest(content: dict[str, tuple[bytes, bool]]) -> str:
    """What the release is called: a hash over names, modes and contents."""
    total = hashlib.sha256()
    for name in sorted(content):
        data, program = content[name]
        total.update(f"{name}\0{int(program)}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return total.hexdigest()[:HASH_DIGITS]


def installed(tree: Path, instance: Instance) -> bool:
    """Whether `tree` is one of the root-owned releases."""
    return tree.parent == instance.code / "releases" and not tree.is_symlink() and layout.is_safe(tree)


def current(instance: Instance) -> Path:
    """The link to the release that was started last."""
    return instance.code / "current"


def install(tree: Path, instance: Instance) -> Path:
    """Copy `tree` to its place, unless the same release is there; returns that place."""
    layout.ensure(layout.code_table(instance))
    content = read(tree)
    place = instance.code / "releases" / digest(content)
    if not place.exists():
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        for name, (data, program) in content.items():
            _place(draft / name, data, program=program)
        draft.chmod(0o755)
        draft.rename(place)
    layout.check_chain(place)
    return place


def _place(target: Path, data: bytes, *, program: bool) -> None:
    for parent in reversed(target.relative_to(target.anchor).parents):
        directory = Path(target.anchor) / parent
        if not directory.exists():
            directory.mkdir()
            directory.chmod(0o755)
    target.write_bytes(data)
    target.chmod(0o755 if program else 0o644)


def make_current(place: Path, instance: Instance) -> None:
    """Point `current` at the release and remove all but the last two."""
    point(current(instance), place)
    os.utime(place)
    releases = [entry for entry in place.parent.iterdir() if entry.is_dir()]
    for old in sorted(releases, key=lambda entry: entry.stat().st_mtime, reverse=True)[KEEP:]:
        if old != place:
            shutil.rmtree(old, ignore_errors=True)


def point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, replacing an older one in one step."""
    if link.is_symlink() and os.readlink(link) == str(target):
        return
    draft = link.with_name(f".{link.name}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(link)
