"""Rules for mounts that need no look at the disk, and where the broker's answers belong in a form."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Mapping, Sequence

from django.conf import settings

from agents.broker.protocol import DESTINATION_CODES, GENERAL_CODES, MODE_CODES
from agents.engine.types import CheckedMount, MountProblem, MountRequest
from agents.operations.text import shortened, visible

MOST_MOUNTS = 16
MOST_BYTES = 4096
MOST_COMPONENT = 255
MOST_BYTES_IN_ALL = 40 * 1024  # of all paths together: they have to fit into one request to the broker
CONTAINER_HOME = "/home/claude"
WORKSPACE = "/workspace"

SYSTEM_TREES = ("/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/etc")  # and all below
SHARED_PLACES = ("/tmp", "/var/tmp")  # noqa: S108 - themselves only: other people's sockets lie there
OTHER_ENGINES = ("/var/lib/docker", "/var/lib/containerd", "/opt/jackin-web")

RESERVED_TREES = (
    *("/proc", "/sys", "/dev", "/run", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/var", "/root"),
    "/jackin",
)
RESERVED_PLACES = ("/", "/tmp", "/home", CONTAINER_HOME)  # noqa: S108

UNWANTED = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, lone surrogates, line and paragraph separators

Errors = dict[str, list[str]]


def default_destination(source: str) -> str:
    """Where a project goes when nothing else is said: `/workspace/<last part of its path>`."""
    name = posixpath.basename(posixpath.normpath(source)) if source else ""
    return f"{WORKSPACE}/{name}" if name not in ("", "/", ".", "..") else WORKSPACE


def path_problems(path: str) -> list[str]:
    """What is wrong with `path` as a piece of text; the first thing only."""
    if not path:
        return ["Give a path."]
    if any(unicodedata.category(character) in UNWANTED for character in path):
        return [f"The path “{shown(path)}” has control characters; give one without them."]
    size = len(path.encode("utf-8", "surrogateescape"))
    if size > MOST_BYTES:
        return [f"The path has {size} bytes; at most {MOST_BYTES} are possible. Give a shorter one."]
    if not path.startswith("/"):
        return [f"“{shown(path)}” is relative. Give the whole path, from /."]
    parts = path.split("/")
    if ".." in parts:
        return [f"“{shown(path)}” has “..” in it. Give the path without it."]
    if any(len(part.encode()) > MOST_COMPONENT for part in parts):
        return [f"A part of the path is longer than {MOST_COMPONENT} bytes; no such name can exist."]
    return []


def source_problems(source: str) -> list[str]:
    """Why `source` can never be mounted, whoever asks."""
    if wrong := path_problems(source):
        return wrong
    path = normal(source)
    if path == "/":
        return ["The whole file system (/) cannot be mounted. Give the directory of a project."]
    for tree in SYSTEM_TREES:
        if is_within(path, tree):
            return [f"{shown(path)} belongs to the system ({tree}) and cannot be mounted. Give a project's directory."]
    if path in SHARED_PLACES:
        return [f"{path} is shared by everybody on this machine. Give a directory of your own below it."]
    for tree in protected_trees():
        if is_within(path, tree):
            return [
                f"{shown(path)} belongs to a container engine or this service ({tree}). Give a project's directory."
            ]
        if is_within(tree, path):
            return [f"{shown(path)} contains {tree}, of a container engine or this service. Give a directory below."]
    return []


def destination_problems(destination: str) -> list[str]:
    """Why nothing can be mounted at `destination` in a container."""
    if wrong := path_problems(destination):
        return wrong
    path = normal(destination)
    hint = f"Take one like {WORKSPACE}/project."
    if path in RESERVED_PLACES:
        return [f"{path} itself is needed by the container. {hint}"]
    for tree in RESERVED_TREES:
        if is_within(path, tree):
            return [f"{shown(path)} lies in {tree}, which the container needs itself. {hint}"]
    if is_within(path, "/home") and not is_within(path, CONTAINER_HOME):
        return [f"{shown(path)} lies in /home, but the agent's home is {CONTAINER_HOME}. {hint}"]
    return []


def mount_list_problems(mounts: Sequence[MountRequest]) -> Errors:
    """All that can be said of the list without looking at the disk, by field."""
    errors: Errors = {}
    if not mounts:
        return {"mounts": ["Give at least one directory: the project."]}
    if len(mounts) > MOST_MOUNTS:
        return {"mounts": [f"{len(mounts)} mounts are too many; at most {MOST_MOUNTS} are possible."]}
    if sum(len((m.source + m.destination).encode("utf-8", "surrogateescape")) for m in mounts) > MOST_BYTES_IN_ALL:
        errors["mounts"] = [f"The paths together have more than {MOST_BYTES_IN_ALL} bytes. Mount fewer directories."]
    for index, mount in enumerate(mounts):
        if wrong := source_problems(mount.source):
            errors[f"mounts.{index}.source"] = wrong
        if wrong := destination_problems(mount.destination):
            errors[f"mounts.{index}.destination"] = wrong
        elif clash := _clash(mounts, index):
            errors[f"mounts.{index}.destination"] = [clash]
        if mount.mode not in ("ro", "rw"):
            errors[f"mounts.{index}.mode"] = ["Choose read-only or read and write."]
    return errors


def broker_problems(found: Sequence[CheckedMount | MountProblem]) -> Errors:
    """The broker's answers at the fields that they are about."""
    errors: Errors = {}
    for index, one in enumerate(found):
        if isinstance(one, MountProblem):
            errors.setdefault(problem_field(one.code, index), []).append(visible(one.message))
    return errors


def problem_field(code: str, index: int | None) -> str:
    """The field for one of the broker's codes."""
    if index is None or code in GENERAL_CODES:
        return "mounts"
    if code in MODE_CODES:
        return f"mounts.{index}.mode"
    return f"mounts.{index}.{'destination' if code in DESTINATION_CODES else 'source'}"


def normalized(mounts: Sequence[MountRequest]) -> tuple[MountRequest, ...]:
    """The same without double and closing slashes, so that what is asked and what is real compare equal."""
    return tuple(
        MountRequest(source=normal(one.source), destination=normal(one.destination), mode=one.mode) for one in mounts
    )


def normal(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def is_within(path: str, tree: str) -> bool:
    """Whether `path` is `tree` or lies below it; both normal."""
    return path == tree or path.startswith(tree.rstrip("/") + "/")


def protected_trees() -> tuple[str, ...]:
    return (normal(settings.JACKIN_DATA), *OTHER_ENGINES, normal(str(settings.BASE_DIR)))


def _clash(mounts: Sequence[MountRequest], index: int) -> str:
    mine = normal(mounts[index].destination)
    for other, mount in enumerate(mounts[:index]):
        theirs = normal(mount.destination)
        if mine == theirs:
            return f"Mount {other + 1} goes to {shown(mine)} already. Give this one a place of its own."
        if is_within(mine, theirs) or is_within(theirs, mine):
            return f"{shown(mine)} and mount {other + 1} ({shown(theirs)}) lie inside each other. Give separate places."
    return ""


def shown(path: str) -> str:
    return visible(shortened(path, most=120), keep="")


def mounts_of_request(request: object) -> tuple[MountRequest, ...] | None:
    """The mounts that a launch's row asks for; None where they cannot be read, as a forged row's may not be."""
    try:
        return tuple(_mount_of(one) for one in request["mounts"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return None


def _mount_of(one: Mapping[str, object]) -> MountRequest:
    source, destination, mode = (one[name] for name in ("source", "destination", "mode"))
    if not (isinstance(source, str) and isinstance(destination, str) and isinstance(mode, str)) or len(one) != 3:
        raise ValueError
    return MountRequest(source=source, destination=destination, mode=mode)  # type: ignore[arg-type]
