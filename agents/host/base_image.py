"""The base of every image: Debian from a registry, or made from Debian's own packages where none answers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agents.host.engine_api import EngineAnswer, EngineApi
from agents.host.instance import Instance
from agents.host.shell import HostError, base_env, run, step

REPOSITORY, SUITE = "jackin/base", "trixie"
TAG = f"{REPOSITORY}:{SUITE}"
PUBLISHED, PUBLISHED_TAG = "debian", "trixie-slim"
PULL_SECONDS = 20.0
CONSTRUCT, CONSTRUCT_TAG = "projectjackin/construct", "trixie"
CONSTRUCT_SECONDS = 600.0
BUILT_HERE = "jackin.content"  # a label, see agents/engine/types.py
DEBOOTSTRAP_SECONDS = 1200.0


def ensure(api: EngineApi, instance: Instance) -> None:
    """Make `jackin/base:trixie` unless it is there."""
    if api.has_image(TAG):
        return
    with step("getting the base image"):
        if pull(EngineApi(api.path, timeout=PULL_SECONDS)):
            return
    with step("making the base image from Debian packages (no image registry answers)"):
        bootstrap(EngineApi(api.path, timeout=600), instance)


def ensure_construct(api: EngineApi) -> None:
    """Get the published construct unless it is there; one that was built here does not count. Raises HostError."""
    if has_published(api):
        return
    with step("getting the published construct"):
        try:
            EngineApi(api.path, timeout=CONSTRUCT_SECONDS).pull(repository=CONSTRUCT, tag=CONSTRUCT_TAG)
        except (OSError, HostError) as error:
            raise HostError(
                f"The published construct {CONSTRUCT}:{CONSTRUCT_TAG} cannot be had: {error}",
                remedy="Start without JACKIN_PUBLISHED_CONSTRUCT: it is built here then.",
            ) from error


def has_published(api: EngineApi) -> bool:
    """Whether the construct is there and none of ours: what is built here says of what it was built."""
    try:
        found = api.json("GET", f"/images/{CONSTRUCT}:{CONSTRUCT_TAG}/json")
    except EngineAnswer as error:
        if error.status == 404:
            return False
        raise
    return BUILT_HERE not in (found["Config"].get("Labels") or {})


def pull(api: EngineApi) -> bool:
    """Whether the published image could be had quickly."""
    try:
        api.pull(repository=PUBLISHED, tag=PUBLISHED_TAG)
        api.call("POST", f"/images/{PUBLISHED}:{PUBLISHED_TAG}/tag", query={"repo": REPOSITORY, "tag": SUITE})
    except (OSError, HostError):
        return False
    return True


def mirror() -> str | None:
    """Where this host gets Debian from; None where it is no Debian: debootstrap knows Debian's own mirror."""
    try:
        text = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    except HostError:
        return None
    lines = (line.strip().rstrip("/") for line in text.splitlines())
    return next((line for line in lines if re.fullmatch(r"https?://[A-Za-z0-9._:/-]+/debian", line)), None)


def bootstrap(api: EngineApi, instance: Instance) -> None:
    """debootstrap into a root-only directory, stream the result into the engine."""
    place = Path(tempfile.mkdtemp(prefix="base-", dir=instance.host_dir))
    tree = place / "root"
    try:
        run(
            ["debootstrap", "--variant=minbase", SUITE, str(tree), *filter(None, [mirror()])],
            env=base_env() | {"HOME": "/root"},
            timeout=DEBOOTSTRAP_SECONDS,
        )
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(tree / leftover, ignore_errors=True)
            (tree / leftover / "partial").mkdir(parents=True)
        for name in ("etc/hostname", "etc/resolv.conf", "var/log/bootstrap.log", "etc/machine-id"):
            (tree / name).unlink(missing_ok=True)
        with archive(tree) as content:
            api.import_image(repository=REPOSITORY, tag=SUITE, content=content, changes=('CMD ["bash"]',))
    finally:
        run(["rm", "-rf", "--one-file-system", "--", str(place)])


@contextlib.contextmanager
def archive(tree: Path) -> Iterator[Iterator[bytes]]:
    """`tree` as one tar stream. Raises HostError if tar fails."""
    command = ["tar", "--numeric-owner", "--xattrs", "--one-file-system", "-C", str(tree), "-c", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=base_env()) as tar:
        if tar.stdout is None:
            raise HostError("tar has no output.")
        descriptor = tar.stdout.fileno()
        try:
            yield iter(lambda: os.read(descriptor, 1 << 20), b"")
        except BaseException:
            tar.kill()
            raise
    if tar.returncode:
        raise HostError(f"tar ended with {tar.returncode} while packing the base image.")
