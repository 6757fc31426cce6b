"""One build on the engine's classic builder: streamed output, limits, prompt cancellation, nothing left behind."""

from __future__ import annotations

import collections
import contextlib
import io
import math
import pathlib
import re
import tarfile
from collections.abc import Callable, Iterable
from typing import Any

from docker import DockerClient
from docker import errors as sdk_errors

from agents.engine import containers as containers_of
from agents.engine.errors import BuildFailed, Cancelled, EngineUnreachable
from agents.engine.follow import Ended, Follower
from agents.engine.sdk import Pool
from agents.engine.types import LABEL_CONTENT, LABEL_INSTANCE, BuildSpec

POLL_SECONDS = 0.5
LAST_LINES = 15
MOST_LINE = 2000
CPU_PERIOD = 100_000
_UNTRUSTED = re.compile(
    r"SELF_SIGNED_CERT|UNABLE_TO_(GET|VERIFY)|certificate verify failed|local issuer certificate", re.IGNORECASE
)
_RUNNING_IN = re.compile(r"^ ---> Running in ([0-9a-f]{12,64})$")


def context_tar(spec: BuildSpec) -> bytes:
    """The build context as a tar: the same bytes for the same files, owned by root, dated 1970."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in sorted({str(up) for name in spec.files for up in pathlib.PurePosixPath(name).parents} - {"."}):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755  # COPY takes the modes of directories over too
            archive.addfile(member)
        for name in sorted(spec.files):
            member = tarfile.TarInfo(name)
            member.size = len(spec.files[name])
            member.mode = 0o755 if name in spec.executable else 0o644
            archive.addfile(member, io.BytesIO(spec.files[name]))
    return buffer.getvalue()


def build(
    pool: Pool, spec: BuildSpec, *, instance: str, log: Callable[[str], None], cancelled: Callable[[], bool]
) -> str:
    """Build and tag; returns the image id. Raises BuildFailed; Cancelled within 5 s of `cancelled()`."""
    containers: set[str] = set()
    last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
    follower = Follower(
        pool,
        lambda client: _ask(client, spec, instance=instance),
        what=f"the build of {spec.tag}",
        params=_limit_params(spec),
    )
    try:
        _follow(follower, spec, log=log, cancelled=cancelled, containers=containers, last=last)
    except (Cancelled, BuildFailed):
        follower.close()
        _remove_leftovers(pool, containers)
        raise
    finally:
        follower.close()
    with pool.client(f"the image {spec.tag}") as client:
        try:
            return str(client.images.get(spec.tag).id)
        except sdk_errors.ImageNotFound as error:
            raise BuildFailed(f"The build of {spec.tag} ended without an image. {' '.join(last)}") from error


def _ask(client: DockerClient, spec: BuildSpec, *, instance: str) -> Iterable[dict[str, Any]]:
    chunks: Iterable[dict[str, Any]] = client.api.build(
        fileobj=io.BytesIO(context_tar(spec)),
        custom_context=True,
        tag=spec.tag,
        buildargs=dict(spec.args),
        labels={**spec.labels, LABEL_INSTANCE: instance, LABEL_CONTENT: spec.content},
        container_limits={"memory": spec.limits.memory, "memswap": spec.limits.memory},
        pull=False,
        rm=True,
        forcerm=True,
        decode=True,
    )
    return chunks


def _limit_params(spec: BuildSpec) -> dict[str, str]:
    """What the engine's build call knows and the SDK does not pass on. There is nothing for pids and open files."""
    return {
        "cpuperiod": str(CPU_PERIOD),
        "cpuquota": str(max(1000, math.floor(spec.limits.cpus * CPU_PERIOD))),
    }


def _follow(
    follower: Follower,
    spec: BuildSpec,
    *,
    log: Callable[[str], None],
    cancelled: Callable[[], bool],
    containers: set[str],
    last: collections.deque[str],
) -> None:
    rest = ""
    while True:
        if cancelled():
            raise Cancelled(f"The build of {spec.tag} was stopped on request.")
        try:
            chunk = follower.get(timeout=POLL_SECONDS)
        except TimeoutError:
            continue
        except Ended:
            return
        if "error" in chunk:
            last.append(str(chunk["error"]))
            raise BuildFailed(
                f"The image {spec.tag} could not be built: {_tail(last)}",
                remedy=_remedy(last),
            )
        *lines, rest = _lines(rest + str(chunk.get("stream") or ""))
        for line in lines:
            if found := _RUNNING_IN.match(line):
                containers.add(found[1])
            if line:
                last.append(line)
                log(line)


def _remedy(last: Iterable[str]) -> str:
    """What to do next; npm, pip and curl each have words of their own for a certificate that they do not trust."""
    if any(_UNTRUSTED.search(line) for line in last):
        return "This network seems to inspect TLS: start the service with --extra-ca and the certificates it needs."
    return "The operation's log has the whole output."


def _lines(text: str) -> list[str]:
    """Whole lines and the unfinished rest; of a line that a carriage return rewrote, only what it became."""
    *whole, rest = text.split("\n")
    lines = [line.rstrip("\r").rpartition("\r")[2][:MOST_LINE].rstrip() for line in whole]
    return [*lines, rest[-4 * MOST_LINE :]]


def _tail(last: Iterable[str]) -> str:
    return " / ".join(line.strip() for line in list(last)[-4:])


def _remove_leftovers(pool: Pool, containers: Iterable[str]) -> None:
    """The engine removes its build containers itself; where it did not get to that, so do we."""
    for container in containers:
        with contextlib.suppress(EngineUnreachable), pool.client(f"the build container {container}") as client:
            containers_of.remove(client, container)
