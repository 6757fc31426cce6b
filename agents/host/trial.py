"""Short-lived containers of the doctor: one static program in an image of its own, removed afterwards."""

from __future__ import annotations

import dataclasses
import io
import re
import tarfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.host.engine_api import EngineAnswer, EngineApi
from agents.host.shell import HostError

LABEL = "jackin.trial"
END = "jackin-trial-end"
LINGER = 120  # seconds; longer than any trial
# What an agent's container keeps; with these `sudo apt-get install` works.
CAPABILITIES = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID",
)  # fmt: skip
MEMORY = 64 * 1024 * 1024
PIDS = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a trial container printed, and how it ended."""

    code: int
    output: str


def image_tar(program: bytes) -> bytes:
    """An image of busybox alone, with the directories that a container needs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
    return buffer.getvalue()


class Trials:
    """Runs commands of busybox in containers like those of agents, on an image made for this one use."""

    def __init__(self, api: EngineApi, tag: str) -> None:
        self._api = api
        self.image = f"jackin/trial:{tag}"

    def run(self, script: str, *, network: str = "bridge", timeout: float = 60) -> Answer:
        """Run `script` with busybox' shell to its end. Raises HostError if the engine cannot."""
        # It lingers until its output was read: the log of a container that ends at once may lose its last lines.
        container = self.create(f"( {script}\n)\necho {END} $?\nexec /bin/busybox sleep {LINGER}", network=network)
        try:
            self._api.call("POST", f"/containers/{container}/start")
            return self._answer(container, time.monotonic() + timeout)
        finally:
            self.remove(container)

    def _answer(self, container: str, limit: float) -> Answer:
        while True:
            if (answer := ended(self.output(container))) is not None:
                return answer
            if time.monotonic() > limit:
                raise HostError("The trial container did not come to its end in time.")
            time.sleep(0.05)

    def create(self, script: str, *, network: str = "bridge", tty: bool = False, own_capabilities: bool = True) -> str:
        """A container that will run `script`; returns its id. With the engine's default capabilities, or ours."""
        body = self._body(script, network, tty)
        if not own_capabilities:
            body["HostConfig"] |= {"CapDrop": [], "CapAdd": []}
        return str(self._api.json("POST", "/containers/create", body=body)["Id"])

    def remove(self, container: str) -> None:
        """Remove it, running or not."""
        self._api.call("DELETE", f"/containers/{container}", query={"force": "true", "v": "true"})

    def output(self, container: str) -> str:
        """What it printed so far (TTY or not)."""
        query = {"stdout": "true", "stderr": "true"}
        return plain(self._api.call("GET", f"/containers/{container}/logs", query=query))

    def _body(self, script: str, network: str, tty: bool) -> dict[str, Any]:
        command: Sequence[str] = ("/bin/busybox", "sh", "-c", script)
        limits = {"Memory": MEMORY, "PidsLimit": PIDS, "NanoCpus": 1_000_000_000}
        host = {"CapDrop": ["ALL"], "CapAdd": list(CAPABILITIES), "NetworkMode": network, **limits}
        env = ["PATH=/bin"]
        labels = {LABEL: "1"}
        return {"Image": self.image, "Cmd": command, "Env": env, "Tty": tty, "Labels": labels, "HostConfig": host}


def ended(output: str) -> Answer | None:
    """The answer once the line of the end is among `output`; what came on stderr may stand before it or after it."""
    found = re.search(rf"^{END} (\d+)\n", output, re.MULTILINE)
    return found and Answer(code=int(found[1]), output=output[: found.start()] + output[found.end() :])


@contextmanager
def trials(api: EngineApi, busybox: Path) -> Iterator[Trials]:
    """Trials on an image of their own; the image is gone afterwards."""
    made = Trials(api, uuid.uuid4().hex[:12])
    repository, tag = made.image.split(":")
    api.import_image(repository=repository, tag=tag, content=image_tar(busybox.read_bytes()))
    try:
        yield made
    finally:
        try:
            api.call("DELETE", f"/images/{made.image}", query={"force": "true"})
        except EngineAnswer as error:
            if error.status != 404:  # an engine that was killed may have forgotten it
                raise


def plain(raw: bytes) -> str:
    """Container output without the engine's frame headers (8 bytes: stream, 0 0 0, length) where it has them."""
    out, rest = bytearray(), raw
    while len(rest) >= 8 and rest[0] in (0, 1, 2) and rest[1:4] == b"\0\0\0":
        size = int.from_bytes(rest[4:8], "big")
        out += rest[8 : 8 + size]
        rest = rest[8 + size :]
    return (bytes(out) + rest).decode(errors="replace")
