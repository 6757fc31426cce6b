"""A fake host with our real engine on it, and the two attackers: an agent and a build step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from typing import Literal

from agents.engine.client import DockerEngine
from agents.engine.types import BuildSpec, Limits
from agents.host.addresses import Addresses
from agents.host.engine_api import EngineApi
from agents.host.netns import noted
from agents.host.shell import HostError
from agents.host.trial import CAPABILITIES
from tests.support import knocker_image
from tests.support.fake_host import INSTANCE, OUTSIDE, REPOSITORY, FakeHost, Space, fake_host
from tests.support.knocking import KNOCK, PYTHON, words
from tests.support.machine import run

Attacker = Literal["agent", "build"]
ATTACKERS: tuple[Attacker, ...] = ("agent", "build")
IMAGE = "jkt/knocker:test"
RESOLVED = "192.0.2.77"  # what `resolver_on` answers
RESOLVE = f"""
import sys, threading
sys.path.insert(0, {str(REPOSITORY)!r})
from tests.support.dns import Resolver
made = Resolver(sys.argv[1], 53)
made.start()
print("listening", flush=True)
threading.Event().wait()
"""
LIMITS = Limits(cpus=1.0, memory=512 * 1024**2, pids=256)
Places = Sequence[tuple[str, int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attackers:
    """The engine behind `socket`, and an agent's own `network` on it."""

    socket: str
    engine: DockerEngine
    network: str

    def docker(self, *arguments: str, check: bool = True) -> str:
        return run("docker", "-H", f"unix://{self.socket}", *arguments, check=check)

    def knock(self, attacker: Attacker, places: Places) -> None:
        """Every place is knocked on, over TCP and UDP, by an agent on its own network or by a step of a build."""
        self.execute(attacker, PYTHON, "-c", KNOCK, *words(attacker, places), ends_with="knocked")

    def execute(self, attacker: Attacker, *command: str, ends_with: str = "") -> str:
        """Run a command as an agent or as a step of a build, both as the product makes them; its output."""
        output = self._build(command) if attacker == "build" else self._run(*command)
        assert ends_with in output, output
        return output

    def _run(self, *command: str) -> str:
        caps = ["--cap-drop=ALL", *(f"--cap-add={name}" for name in CAPABILITIES)]
        return self.docker("run", "--rm", "--network", self.network, *caps, IMAGE, *command)

    def _build(self, command: Sequence[str]) -> str:
        lines: list[str] = []
        never_cached = f"ENV NEVER={secrets.token_hex(8)}"
        dockerfile = f"FROM {IMAGE}\n{never_cached}\nRUN {json.dumps(command)}\n"
        spec = BuildSpec(
            tag=f"jkt/built:{secrets.token_hex(4)}",
            files={"Dockerfile": dockerfile.encode()},
            content=secrets.token_hex(32),
            args={},
            limits=LIMITS,
        )
        self.engine.build_image(spec, log=lines.append)
        self.docker("image", "rm", "-f", spec.tag)
        return "\n".join(lines)

    @contextlib.contextmanager
    def sleeping_agent(self, *, network: str = "") -> Iterator[tuple[str, int]]:
        """A running agent that does nothing: its address and its process id."""
        name = network or self.network
        container = self.docker("run", "-d", "--network", name, IMAGE, "busybox", "sleep", "600").strip()
        try:
            found = json.loads(self.docker("inspect", container))[0]
            yield found["NetworkSettings"]["Networks"][name]["IPAddress"], found["State"]["Pid"]
        finally:
            self.docker("rm", "-f", container)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Net(Attackers):
    """The attackers on a fake host."""

    host: FakeHost

    @property
    def addresses(self) -> Addresses:
        found = noted(INSTANCE)
        assert found is not None
        return found

    def empty_the_hosts_rules(self) -> None:
        """Take the host's side away; `host.do("ensure")` sets all again."""
        for family in ("iptables", "ip6tables"):
            self.host.run(family, "-w", "-t", "mangle", "-F")

    def empty_the_namespaces_rules(self, *, routes: bool) -> None:
        """Take the namespace's side away, with its routes or without."""
        run(*self.host.engine_space, "iptables", "-w", "-t", "mangle", "-F")
        if routes:
            listed = run(*self.host.engine_space, "ip", "-j", "route", "show", "type", "prohibit")
            for route in json.loads(listed or "[]"):
                run(*self.host.engine_space, "ip", "route", "del", "prohibit", route["dst"])


@contextlib.contextmanager
def attackers(socket: str, *, instance: str) -> Iterator[Attackers]:
    """An agent's network and the image IMAGE on the engine behind `socket`; gone afterwards."""
    api = EngineApi(pathlib.Path(socket))
    repository, tag = IMAGE.split(":")
    api.import_image(repository=repository, tag=tag, content=knocker_image.content())
    engine = DockerEngine(socket, instance=instance)
    network = f"jackin-{secrets.token_hex(4)}"
    engine.ensure_network(network, agent="0" * 32, operation="test")
    try:
        yield Attackers(socket=socket, engine=engine, network=network)
    finally:
        engine.remove_network(network)
        engine.close()
        with contextlib.suppress(HostError):
            api.call("DELETE", f"/images/{IMAGE}", query={"force": "true"})


@contextlib.contextmanager
def engine_on_a_fake_host(*, resolver: str = OUTSIDE) -> Iterator[Net]:
    """All of it, up; gone afterwards."""
    with fake_host(resolver=resolver) as host:
        host.do("start")
        with attackers(str(INSTANCE.engine_socket), instance=INSTANCE.name) as found:
            yield Net(socket=found.socket, engine=found.engine, network=found.network, host=host)


@contextlib.contextmanager
def bridge_of_the_host(host: FakeHost) -> Iterator[Space]:
    """Another bridge of the host, as a virtual machine's would be: 192.0.2.129/25 there, and .130 behind it."""
    behind = Space("--net", "sh", "-c", "echo ready; exec sleep infinity")
    try:
        host.run("ip", "link", "add", "other0", "type", "bridge")
        host.run("ip", "link", "add", "tap0", "type", "veth", "peer", "name", "eth0", "netns", str(behind.pid))
        host.run("ip", "link", "set", "tap0", "master", "other0", "up")
        host.run("ip", "addr", "add", "192.0.2.129/25", "dev", "other0")
        host.run("ip", "link", "set", "other0", "up")
        behind.run("ip", "addr", "add", "192.0.2.130/25", "dev", "eth0")
        behind.run("ip", "link", "set", "eth0", "up")
        behind.run("ip", "route", "add", "default", "via", "192.0.2.129")
        yield behind
    finally:
        host.run("ip", "link", "del", "other0", check=False)
        behind.close()


@contextlib.contextmanager
def resolver_on(host: FakeHost, address: str) -> Iterator[None]:
    """The host's resolver: it answers every question with RESOLVED."""
    argv = [*host.inside, PYTHON, "-B", "-c", RESOLVE, address]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        try:
            yield
        finally:
            process.kill()
