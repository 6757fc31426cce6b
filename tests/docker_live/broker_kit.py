"""A broker of its own for tests, and containers behind its gate on the real engine."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping

from agents.broker.gate import GATE_DIR, SECRETS_DIR
from agents.engine.broker_client import BrokerClient
from agents.engine.types import MountRequest, Staging
from agents.host.children import bind, listeners
from agents.host.instance import Instance
from agents.host.mount_ns import is_mounted
from tests.support.machine import run

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
IMAGE = "jackin/base:trixie"  # the base that every engine of ours has
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL"),
    *("SETGID", "SETUID", "AUDIT_WRITE", "NET_BIND_SERVICE"),
)


class Kit:
    """A running broker with its own data directory, its client, and the engine that binds what it stages."""

    def __init__(self, instance: Instance, engine: str, *, apart: bool = False) -> None:
        self.instance = instance
        self.engine = engine
        self.client = BrokerClient(instance.broker_socket, guard=instance.guard_socket)
        self.log = instance.data / "broker.log"
        self._apart = apart
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the broker on the socket that outlives it, as the supervisor does."""
        if self._listener is None:
            self._listener = bind(listeners(self.instance)["broker"])
        number = str(self._listener.fileno())
        env = {"PATH": os.environ["PATH"], "JACKIN_INSTANCE": self.instance.name, "JACKIN_FD_BROKER": number}
        apart = ["unshare", "--mount", "--propagation", "private"] if self._apart else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*apart, os.environ.get("JACKIN_TEST_PYTHON", "/usr/bin/python3"), "-m", "agents.broker"],
                cwd=REPOSITORY,
                env=env,
                stderr=log,
                pass_fds=[self._listener.fileno()],
            )
        self.client.staged()  # answered as soon as it serves

    def stop(self) -> None:
        """End the broker; what is staged stays staged."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(10) == 0, self.log.read_text()
            self._process = None

    def close(self) -> None:
        """End the broker and release what it staged."""
        for launch in self.client.staged():
            self.client.release(launch)
        self.stop()
        if self._listener is not None:
            self._listener.close()

    def inside(self, *command: str) -> str:
        """Run a command in the broker's own mount namespace."""
        return run("nsenter", f"--mount=/proc/{self.pid}/ns/mnt", *command)

    @contextlib.contextmanager
    def instead(self, file: str, other: pathlib.Path) -> Iterator[None]:
        """For a broker that is apart: it, and nobody else on the machine, finds `other` at the path `file`."""
        assert self._apart
        self.inside("mount", "--bind", str(other), file)
        try:
            yield
        finally:
            self.inside("umount", file)

    def docker(self, *arguments: str, check: bool = True) -> str:
        return run("docker", "-H", f"unix://{self.engine}", *arguments, check=check)

    def inspect(self, container: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.docker("inspect", container))[0]
        return found


@contextlib.contextmanager
def running_broker(engine: str, *, apart: bool = False) -> Iterator[Kit]:
    """A broker with a data directory of its own below /var/lib, with the modes that `serve` gives it.

    One that is `apart` has its own mount namespace: files of the system can be replaced for it alone, and what it
    stages is seen by no engine.
    """
    instance = Instance(name="bt" + secrets.token_hex(2))
    made = [(instance.data, 0o711), (instance.run_root, 0o750), (instance.stage, 0o700), (instance.keys, 0o700)]
    made += [(instance.states, 0o700), (instance.trash, 0o700)]
    for path, mode in made:
        path.mkdir(mode=mode)
        path.chmod(mode)
    shared = pathlib.Path(engine).parents[1] / "stage"
    if is_mounted(str(shared)):  # an engine in its own mount namespace sees what is mounted below its own stage only
        instance.stage.rmdir()
        shared = shared / instance.name
        shared.mkdir(mode=0o700)
        instance.stage.symlink_to(shared)
    kit = Kit(instance, engine, apart=apart)
    try:
        kit.start()
        yield kit
    finally:
        kit.close()
        shutil.rmtree(instance.stage.resolve())
        shutil.rmtree(instance.data)


def request(source: os.PathLike[str] | str, destination: str, mode: str = "rw") -> MountRequest:
    return MountRequest(source=os.fspath(source), destination=destination, mode=mode)  # type: ignore[arg-type]


class Agent:
    """A container made like those of the product: gate first, user 1000, few capabilities."""

    def __init__(self, kit: Kit, staging: Staging, *, binds: Mapping[str, str] | None = None) -> None:
        self.kit = kit
        self.staging = staging
        self._binds = binds
        self.id = ""

    def create(self, *argv: str, image: str = IMAGE) -> None:
        """Create the container; `argv` is what the gate executes."""
        mounts = [
            *((mount.staged, mount.destination, mount.mode) for mount in self.staging.mounts),
            (self.staging.gate, GATE_DIR, "ro"),
            (self.staging.secrets, SECRETS_DIR, "rw"),
        ]
        options = ["--label", "jackin.test=broker", "--network", "none", "--user", "1000:1000", "--tty"]
        for group in self.staging.groups:
            options += ["--group-add", str(group)]
        options += ["--cap-drop", "ALL", *(f"--cap-add={name}" for name in CAPABILITIES)]
        for source, destination, mode in mounts:
            source = (self._binds or {}).get(destination, source)
            read_only = ",readonly" if mode == "ro" else ""
            options += ["--mount", f"type=bind,src={source},dst={destination},bind-propagation=rprivate{read_only}"]
        gate = ["--entrypoint", f"{GATE_DIR}/busybox", image, "sh", f"{GATE_DIR}/gate"]
        self.id = self.kit.docker("create", *options, *gate, *argv).strip()

    def start(self) -> int:
        """Start it; the pid of its first process."""
        self.kit.docker("start", self.id)
        return self.pid

    @property
    def pid(self) -> int:
        return int(self.kit.inspect(self.id)["State"]["Pid"])  # type: ignore[index]

    def execute(self, command: str, *, user: str = "1000:1000") -> subprocess.CompletedProcess[str]:
        """Run a shell command in it. Like `docker exec`, with the added groups of the container."""
        line = ["docker", "-H", f"unix://{self.kit.engine}", "exec", "--user", user, self.id, "sh", "-c", command]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    def remove(self) -> None:
        if self.id:
            self.kit.docker("rm", "--force", "--volumes", self.id, check=False)


@contextlib.contextmanager
def agent(kit: Kit, web_user: str, *mounts: MountRequest, binds: Mapping[str, str] | None = None) -> Iterator[Agent]:
    """A staged, created, not yet started container; removed and released at the end."""
    staging = kit.client.stage(web_user, secrets.token_hex(16), list(mounts))
    made = Agent(kit, staging, binds=binds)
    try:
        made.create("sleep", "600")
        yield made
    finally:
        made.remove()
        kit.client.release(staging.launch)


@contextlib.contextmanager
def running(kit: Kit, web_user: str, *mounts: MountRequest, secret: Mapping[str, str] | None = None) -> Iterator[Agent]:
    """A container that was let through its gate."""
    with agent(kit, web_user, *mounts) as made:
        kit.client.admit(made.staging.launch, pid=made.start(), secrets=secret or {})
        wait_for(lambda: b"sleep" in pathlib.Path(f"/proc/{made.pid}/cmdline").read_bytes())
        yield made


def wait_for(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Return as soon as `condition()` is true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
