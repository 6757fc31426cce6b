"""The host's ordinary Docker engine beside ours: in the host's own network namespace, on the system's containerd."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

from agents.host.trial import image_tar
from tests.support.machine import run
from tests.support.service import wait_for

PLACE = pathlib.Path("/var/lib/jkt-ordinary")
SYSTEM_CONTAINERD = pathlib.Path("/run/containerd/containerd.sock")
SYSTEM_DATA = pathlib.Path("/var/lib/containerd")
FORWARD = pathlib.Path("/proc/sys/net/ipv4/ip_forward")
IMAGE = "jkt/busybox:test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrdinaryEngine:
    """`pids` are those of dockerd and containerd."""

    socket: pathlib.Path
    pids: tuple[int, ...]

    def docker(self, *arguments: str, check: bool = True) -> str:
        """The Docker command line on this engine."""
        return run("docker", "-H", f"unix://{self.socket}", *arguments, check=check)

    def objects(self) -> dict[str, frozenset[str]]:
        """Everything that it has, by kind: what our service must never touch."""
        listed = {
            "containers": ("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"),
            "images": ("image", "ls", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}"),
            "networks": ("network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"),
            "volumes": ("volume", "ls", "--format", "{{.Name}}"),
        }
        return {kind: frozenset(self.docker(*words).splitlines()) for kind, words in listed.items()}


@contextlib.contextmanager
def ordinary_engine() -> Iterator[OrdinaryEngine]:
    """An engine as `apt-get install docker.io` would run it, with the image IMAGE; the machine is put back afterwards.

    Its data lies in a place of its own, so that one that is installed on this machine keeps what it has.
    """
    forward = _forwarding()
    policy = run("iptables", "-S", "FORWARD").splitlines()[0]
    bridge = pathlib.Path("/sys/class/net/docker0").exists()
    with contextlib.ExitStack() as stack:
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(mode=0o711)
        stack.callback(shutil.rmtree, PLACE, ignore_errors=True)
        stack.callback(_put_back, forward, policy, bridge=bridge)
        pids = []
        if not _answers(SYSTEM_CONTAINERD):
            if not SYSTEM_DATA.exists():
                stack.callback(shutil.rmtree, SYSTEM_DATA, ignore_errors=True)
            stack.callback(_remove_sockets)
            pids.append(stack.enter_context(_running("containerd", ["containerd"])))
            wait_for("the system's containerd", lambda: _answers(SYSTEM_CONTAINERD))
        place = PLACE / "docker.sock"
        argv = ["dockerd", "-H", f"unix://{place}", "--containerd", str(SYSTEM_CONTAINERD)]
        argv += ["--data-root", str(PLACE / "data"), "--exec-root", str(PLACE / "exec")]
        argv += ["--pidfile", str(PLACE / "docker.pid"), "--config-file", str(PLACE / "daemon.json")]
        (PLACE / "daemon.json").write_text("{}")
        pids.append(stack.enter_context(_running("dockerd", argv)))
        made = OrdinaryEngine(socket=place, pids=tuple(pids))
        wait_for("the ordinary engine", lambda: place.exists() and made.docker("ps", check=False).startswith("CONT"))
        _import_busybox(made)
        yield made
        for container in made.docker("ps", "-aq").split():
            made.docker("rm", "--force", "--volumes", container)
        made.docker("network", "prune", "--force")  # else their bridges and rules outlive it


@contextlib.contextmanager
def _running(name: str, argv: list[str]) -> Iterator[int]:
    with (PLACE / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _import_busybox(engine: OrdinaryEngine) -> None:
    command = ["docker", "-H", f"unix://{engine.socket}", "import", "-", IMAGE]
    subprocess.run(
        command, input=image_tar(pathlib.Path("/usr/bin/busybox").read_bytes()), check=True, capture_output=True
    )


def _answers(path: pathlib.Path) -> bool:
    """Whether somebody listens there; a name alone may be left from one that ended."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _remove_sockets() -> None:
    for path in SYSTEM_CONTAINERD.parent.glob(f"{SYSTEM_CONTAINERD.name}*"):
        path.unlink()


def _forwarding() -> dict[pathlib.Path, str]:
    """Forwarding as it is, of the host as a whole and of each interface, in the order in which to set it again."""
    files = [FORWARD, *sorted(FORWARD.parent.glob("conf/*/forwarding"))]
    return {file: file.read_text() for file in files}


def _put_back(forward: dict[pathlib.Path, str], policy: str, *, bridge: bool) -> None:
    """What dockerd leaves behind when it stops: its chains, its bridge, forwarding, the policy of FORWARD."""
    for table in ("filter", "nat"):
        saved = run("iptables-save", "-t", table).splitlines()
        for line in (line for line in saved if line.startswith("-A") and ("DOCKER" in line or "docker0" in line)):
            run("iptables", "-w", "-t", table, "-D", *_words(line), check=False)
        for chain in (line[1:].split()[0] for line in saved if line.startswith(":DOCKER")):
            run("iptables", "-w", "-t", table, "-F", chain, check=False)
            run("iptables", "-w", "-t", table, "-X", chain, check=False)
    run("iptables", "-w", *policy.split(), check=False)
    if not bridge:
        run("ip", "link", "del", "docker0", check=False)
    for place in _mounts_below(PLACE):
        run("umount", "--lazy", place, check=False)
    for file, value in forward.items():  # setting the first sets all the others
        if file.exists():
            file.write_text(value)


def _words(line: str) -> list[str]:
    return line.removeprefix("-A ").replace('"', "").split()


def _mounts_below(place: pathlib.Path) -> list[str]:
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted((p for p in (line.split(" ")[4] for line in lines) if p.startswith(f"{place}{os.sep}")), reverse=True)
