"""Third-party code: fetched by an unprivileged account, kept by root, cached by the hash of its lock."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from agents.host import processes
from agents.host.instance import USER_BUILD, Instance
from agents.host.release import HASH_DIGITS
from agents.host.shell import HostError, as_user, network_env, run, step

PYTHON = "/usr/bin/python3"
KEEP = 2
FRONT_END = ("package.json", "package-lock.json", "scripts", "static")


def environment(release: Path, instance: Instance, *, extra_ca: Path | None) -> Path:
    """The virtual environment of the release's lock; made if it is not there."""
    version = run([PYTHON, "-c", "import sys; print(sys.version)"])
    name = _hash(version.encode(), (release / "requirements.lock").read_bytes())
    place = instance.code / "venvs" / name
    if not place.exists():
        with step("installing the locked Python packages"):
            _make_environment(place, release, _build_env(instance, extra_ca))
    _prune(place)
    return place


def _make_environment(place: Path, release: Path, env: Mapping[str, str]) -> None:
    """Built at its final path (programs name it), then copied: root keeps files that nobody else ever had open."""
    draft = place.with_name(f".{place.name}.kept")
    for leftover in (place, draft):
        remove(leftover)
    try:
        run([PYTHON, "-m", "venv", str(place)], timeout=300)
        run(["chown", "-hR", f"{USER_BUILD}:{USER_BUILD}", str(place)])
        # -I: nothing of the working directory or of the account's own site directory is imported.
        pip = [f"{place}/bin/python", "-I", "-m", "pip", "install", "--no-input", "--no-cache-dir", "--quiet"]
        lock = ["--only-binary", ":all:", "--require-hashes", "-r", f"{release}/requirements.lock"]
        run(as_user(USER_BUILD, [*pip, *lock], umask=0o022), env=env, timeout=1800)
        end_builders()
        keep(place, draft)
    except BaseException:
        end_builders()
        remove(place)
        remove(draft)
        raise
    remove(place)
    draft.rename(place)


def front_end(release: Path, instance: Instance, *, extra_ca: Path | None) -> None:
    """Put the built front end into the release's static/dist."""
    target = release / "static" / "dist"
    if target.exists() or not (release / "package.json").exists():
        return
    sources = sorted(file for part in FRONT_END for file in _files(release / part))
    node = run(["node", "--version"])
    name = _hash(node.encode(), *(f"{f.relative_to(release)}\0".encode() + f.read_bytes() for f in sources))
    place = instance.code / "frontends" / name
    if not place.exists():
        with step("building the front end"):
            _build_front_end(place, release, _build_env(instance, extra_ca))
    _prune(place)
    draft = target.with_name(".dist.new")
    remove(draft)
    keep(place, draft)
    draft.rename(target)


def _build_front_end(place: Path, release: Path, env: Mapping[str, str]) -> None:
    work, draft = place.parent.parent / "work" / place.name, place.with_name(f".{place.name}.kept")
    for leftover in (work, draft):
        remove(leftover)
    try:
        work.mkdir(mode=0o700)
        for part in FRONT_END:
            source = release / part
            if source.is_dir():
                shutil.copytree(source, work / part)
            elif source.exists():
                shutil.copy(source, work / part)
        run(["chown", "-hR", f"{USER_BUILD}:{USER_BUILD}", str(work)])
        for command in (["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
            run(as_user(USER_BUILD, command, umask=0o022), env=env, cwd=work, timeout=1200)
        end_builders()
        keep(work / "static" / "dist", draft)
        draft.rename(place)
    finally:
        end_builders()
        remove(work)
        remove(draft)


def keep(source: Path, target: Path) -> None:
    """Copy what another account made into new files of root's. Raises HostError for devices, pipes and foreign links.

    Symbolic links stay links if they lead to a name inside the tree or to the system's Python.
    """
    found = os.lstat(source)
    if stat.S_ISDIR(found.st_mode):
        target.mkdir()
        target.chmod(0o755)
        for entry in sorted(os.listdir(source)):
            keep(source / entry, target / entry)
    elif stat.S_ISLNK(found.st_mode):
        goal = os.readlink(source)
        if goal in {".", ".."} or ("/" in goal and not goal.startswith("/usr/bin/python3")):
            raise HostError(f"{source} is a link to {goal}; a package may not bring that.")
        target.symlink_to(goal)
    elif stat.S_ISREG(found.st_mode):
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as reader, target.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
        target.chmod(0o755 if found.st_mode & stat.S_IXUSR else 0o644)  # never set-id
        os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))  # compiled modules name their source's time
    else:
        raise HostError(f"{source} is neither a file, a directory nor a link; a package may not bring that.")


def _build_env(instance: Instance, extra_ca: Path | None) -> dict[str, str]:
    home = instance.code / "work" / "home"
    remove(home)
    home.mkdir(mode=0o700)
    shutil.chown(home, USER_BUILD, USER_BUILD)
    return network_env(extra_ca) | {"HOME": str(home)}


def end_builders() -> None:
    """Kill whatever the build account left running, before anything of its files is kept."""
    processes.end_all_of_user(pwd.getpwnam(USER_BUILD).pw_uid)


def _prune(place: Path) -> None:
    """Keep the one in use and the last one before it."""
    os.utime(place)
    entries = [entry for entry in place.parent.iterdir() if not entry.name.startswith(".")]
    for old in sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)[KEEP:]:
        remove(old)


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return [file for file in place.rglob("*") if file.is_file()]
    return [place] if place.exists() else []


def remove(place: Path) -> None:
    """Remove a tree that another account may have filled; links in it are not followed."""
    if os.path.lexists(place):
        run(["rm", "-rf", "--one-file-system", "--", str(place)])


def _hash(*parts: bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:HASH_DIGITS]
