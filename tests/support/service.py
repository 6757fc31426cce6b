"""The whole service for tests: `./scripts/serve` from a clone in an empty directory, as an instance of its own."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from typing import TypeVar

from agents.host.instance import Instance

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "jktest"
START_SECONDS = 2400.0  # a bare machine installs the engine and builds every image first
STARTED = "--- started ---\n"

T = TypeVar("T")


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, look: Callable[[], T | None], *, seconds: float = 30.0) -> T:
    """The first truthy answer of `look`; AssertionError naming `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last answer: {found!r})")
        time.sleep(0.05)


def clone(target: pathlib.Path) -> pathlib.Path:
    """A `git clone` of this checkout in `target`, with the changes that are not committed yet laid over it."""
    git = ["git", "-C", str(ROOT)]
    subprocess.run(["git", "clone", "-q", str(ROOT), str(target)], check=True)
    changed = subprocess.run(
        [*git, "ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, changed.decode().split("\0")):
        source, copy = ROOT / name, target / name
        if source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
        else:
            copy.unlink(missing_ok=True)
    return target


@dataclasses.dataclass(kw_only=True)
class Service:
    """A running service. `clone` is where it was started from, `log` what it printed."""

    clone: pathlib.Path
    instance: Instance
    log: pathlib.Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the pages are."""
        return f"http://127.0.0.1:{self.instance.port}"

    def start(self, *arguments: str, seconds: float = START_SECONDS) -> float:
        """Run `./scripts/serve` until its page answers; returns the seconds that it took."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            log.write(STARTED.encode())
            log.flush()
            self.process = subprocess.Popen(
                ["./scripts/serve", "--port", str(self.instance.port), *arguments],
                cwd=self.clone,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for("the service to be ready", self._is_ready, seconds=seconds)
        return time.monotonic() - began

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"./scripts/serve ended with {self.process.returncode}:\n{self.tail()}")
        if f"ready: {self.url}" not in self.log.read_text(errors="replace").rsplit(STARTED, 1)[-1]:
            return False
        with urllib.request.urlopen(f"{self.url}/login", timeout=5) as page:
            return bool(page.status == 200)

    def stop(self, *, seconds: float = 60.0) -> int:
        """Ctrl-C; returns the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(seconds)
        self.process = None
        return code

    def tail(self, lines: int = 60) -> str:
        """The last lines that it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def manage(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` of the clone as root."""
        return subprocess.run(
            ["/usr/bin/python3", "manage.py", *arguments],
            cwd=self.clone,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    def child(self, name: str) -> int:
        """Process id of the part called `name` (broker, guard, runner, terminals, daphne)."""
        return int((self.instance.run_root / f"{name}.pid").read_text())

    def kill_child(self, name: str) -> None:
        """`kill -9` one part and wait until the supervisor has started another one."""
        old = self.child(name)
        os.kill(old, signal.SIGKILL)
        wait_for(f"a new {name}", lambda: self._is_new(name, old))

    def _is_new(self, name: str, old: int) -> bool:
        try:
            return self.child(name) != old
        except (OSError, ValueError):
            return False


def make_service() -> Service:
    """A service that is not started yet, cloned into an empty directory."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("JACKIN_", "SUDO_"))}
    environment |= {"JACKIN_INSTANCE": NAME, "JACKIN_PORT": str(port)}
    bundle = environment.get("SSL_CERT_FILE") or environment.get("NODE_EXTRA_CA_CERTS")
    if bundle:  # a network that inspects TLS: the images need its certificate, as on a company's workstation
        environment["JACKIN_EXTRA_CA"] = bundle
    place = pathlib.Path(tempfile.mkdtemp(prefix="jackin-web-test-"))
    instance = Instance(name=NAME, port=port)
    return Service(
        clone=clone(place / "jackin-web"), instance=instance, log=place / "serve.log", environment=environment
    )
