"""A host of the test's own, in namespaces: an uplink to an `outside`, a second network `lan`, and our real engine.

Everything that the product does to a host happens in here: interfaces, rules, forwarding, resolv.conf, listeners on
port 53. The machine below is not changed. Only files (below /var/lib, /opt, /var/log) are shared with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from agents.host import layout, packages, users
from agents.host.instance import Instance
from tests.support.knocking import PYTHON
from tests.support.machine import run

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
INSTANCE = Instance(name="jknet", port=8097)
TREE = INSTANCE.code / "tree"  # the product's code where its unprivileged accounts can read it
LOCK = pathlib.Path("/run/lock/jackin-web-fake-host")

HOST_UP, OUTSIDE = "198.51.100.1", "198.51.100.254"  # the uplink's two ends
HOST_LAN, LAN = "203.0.113.1", "203.0.113.7"
HOST_LINK_LOCAL, METADATA = "169.254.77.1", "169.254.169.254"  # of the host itself; of a cloud, behind the uplink
HOST_UP6, OUTSIDE6, HOST_LAN6 = "2001:db8:1::1", "2001:db8:1::254", "fd00:db8::1"

# A /sys of this namespace with the cgroups of the machine; names of namespaces and of the resolver are its own.
_SET_UP = r"""
set -e
mkdir -p /run/netns "$1/cgroup"
mount -t tmpfs tmpfs /run/netns
mount --rbind /sys/fs/cgroup "$1/cgroup"
umount -R -l /sys/fs/cgroup
mount -t sysfs sysfs /sys
mount --rbind "$1/cgroup" /sys/fs/cgroup
umount -R -l "$1/cgroup"
mount --bind "$1/resolv.conf" /etc/resolv.conf
echo ready
exec sleep infinity
"""

_DO = """
import json, os, sys, threading
from pathlib import Path
os.umask(0o077)
from agents.host import children, doctor, forwarding, guard, netns, resolvers
from agents.host.firewall import Firewall
from agents.host.instance import Instance
from agents.host.own_engine import OwnEngine
from agents.host.settings import Settings
from agents.host.supervisor import Supervisor
instance, what = Instance.from_env(), sys.argv[1]
if what == "network":
    Firewall(instance, addresses=netns.ensure(instance)).ensure()
elif what == "start":
    OwnEngine(instance).start()
elif what == "stop":
    OwnEngine(instance).stop()
elif what == "ensure":
    guard.make_firewall(instance).ensure()
elif what == "doctor":
    print(json.dumps({one.name: [one.status, one.detail] for one in doctor.examine(instance, Path(sys.argv[2]))}))
elif what == "forward":
    wanted, upstreams = Settings(instance=instance), resolvers.noted_upstreams(instance)
    parts = children.children(wanted, Path(sys.argv[2]), upstreams=upstreams)
    supervisor = Supervisor(
        [part for part in parts if part.name == "dns"], listening=forwarding.bind(instance), logs=instance.logs,
        pids=instance.run_root, engine_dead=lambda: "", engine_start=lambda: None,
    )
    threading.Thread(target=lambda: (sys.stdin.read(), supervisor.request_stop("done")), daemon=True).start()
    print("ready", flush=True)
    supervisor.run()
    supervisor.stop()
"""


class Space:
    """A network namespace that lives as long as this object's process."""

    def __init__(self, *command: str) -> None:
        argv = ["setpriv", "--pdeathsig=KILL", "unshare", *command]
        self._holder = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self.pid = self._holder.pid

    @property
    def inside(self) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--net", "--mount"]

    def run(self, *command: str, check: bool = True) -> str:
        return run(*self.inside, *command, check=check)

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait(10)
        assert self._holder.stdout is not None
        self._holder.stdout.close()


class FakeHost(Space):
    """The host. `outside` and `lan` are the machines at the other ends; both send through it what is not theirs."""

    instance = INSTANCE

    def __init__(self, place: pathlib.Path, *, forwards: bool = False, resolver: str = OUTSIDE) -> None:
        (place / "resolv.conf").write_text(f"nameserver {resolver}\n")
        super().__init__("--net", "--mount", "--propagation=private", "sh", "-c", _SET_UP, "sh", str(place))
        plain = ("--net", "sh", "-c", "echo ready; exec sleep infinity")
        self.outside, self.lan = Space(*plain), Space(*plain)
        self._join(self.outside, "up0", (HOST_UP, HOST_UP6), (OUTSIDE, OUTSIDE6), gateway=HOST_UP)
        self._join(self.lan, "lan0", (HOST_LAN, HOST_LAN6), (LAN,), gateway=HOST_LAN)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "route", "add", "default", "via", OUTSIDE)
        self.outside.run("ip", "addr", "add", f"{METADATA}/32", "dev", "lo")
        self.run("ip", "link", "add", "own0", "type", "bridge")
        self.run("ip", "addr", "add", f"{HOST_LINK_LOCAL}/24", "dev", "own0")
        self.run("ip", "link", "set", "own0", "up")
        self.run("sysctl", "-qw", f"net.ipv4.ip_forward={int(forwards)}")

    def _join(self, other: Space, name: str, mine: Sequence[str], theirs: Sequence[str], *, gateway: str) -> None:
        self.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(other.pid))
        for space, device, addresses in ((self, name, mine), (other, "eth0", theirs)):
            space.run("ip", "link", "set", device, "up")
            for address in addresses:
                more = ["/64", "nodad"] if ":" in address else ["/24"]
                space.run("ip", "addr", "add", address + more[0], "dev", device, *more[1:])
        other.run("ip", "link", "set", "lo", "up")
        other.run("ip", "route", "add", "default", "via", gateway)

    @property
    def engine_space(self) -> list[str]:
        """Command prefix into the agents' namespace."""
        return [*self.inside, "nsenter", f"--net=/run/netns/{INSTANCE.netns}"]

    def _argv(self, *words: str) -> list[str]:
        env = [f"PYTHONPATH={TREE}", f"JACKIN_INSTANCE={INSTANCE.name}", f"PATH={os.environ['PATH']}"]
        return [*self.inside, "env", "-i", *env, PYTHON, "-B", "-c", _DO, *words]

    def do(self, what: str) -> None:
        """One act of the product on this host: network, start, stop, ensure."""
        run(*self._argv(what))

    @contextlib.contextmanager
    def forwarder(self) -> Iterator[None]:
        """The product's forwarder for names, under its supervisor."""
        argv = self._argv("forward", str(TREE))
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
            process.communicate(timeout=20)

    def doctor(self) -> dict[str, tuple[str, str]]:
        """Status and detail of each check of the doctor, by name."""
        found = json.loads(run(*self._argv("doctor", str(TREE))).splitlines()[-1])
        return {name: (status, detail) for name, (status, detail) in found.items()}

    def docker(self, *arguments: str, check: bool = True) -> str:
        return run("docker", "-H", f"unix://{INSTANCE.engine_socket}", *arguments, check=check)

    def close(self) -> None:
        super().close()
        self.outside.close()
        self.lan.close()


@contextlib.contextmanager
def fake_host(*, forwards: bool = False, resolver: str = OUTSIDE) -> Iterator[FakeHost]:
    """A host without anything of ours yet; afterwards nothing of it is left."""
    assert os.geteuid() == 0, "needs root"
    packages.ensure()
    users.ensure_users()
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_files()
        layout.ensure(layout.table(INSTANCE))
        layout.ensure(layout.code_table(INSTANCE))
        shutil.copytree(REPOSITORY / "agents", TREE / "agents", ignore=shutil.ignore_patterns("__pycache__"))
        run("chmod", "-R", "a+rX", str(TREE))
        place = pathlib.Path(tempfile.mkdtemp(prefix="jkt-host-", dir="/run"))
        place.chmod(0o755)
        host = FakeHost(place, forwards=forwards, resolver=resolver)
        try:
            yield host
        finally:
            with contextlib.suppress(AssertionError):
                _end(host)
            host.close()
            shutil.rmtree(place, ignore_errors=True)
            _remove_files()


def _end(host: FakeHost) -> None:
    if INSTANCE.engine_socket.exists():
        for container in host.docker("ps", "-aq", check=False).split():
            host.docker("rm", "-f", "-v", container, check=False)
        host.do("stop")


def _remove_files() -> None:
    for tree in (INSTANCE.data, INSTANCE.code, INSTANCE.logs):
        run("rm", "-rf", "--one-file-system", str(tree))
