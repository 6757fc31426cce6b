"""Our own containerd and dockerd: remapped, in their own network namespace, adopted when they run already."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from agents.host import bridges, busybox, engine_config, mount_ns, netns, processes, resolvers, seccomp
from agents.host.addresses import Addresses, look
from agents.host.engine_api import EngineApi
from agents.host.firewall import Firewall
from agents.host.instance import Instance
from agents.host.limits import raise_limits
from agents.host.processes import Found
from agents.host.shell import PROXY_ENV, HostError, base_env, network_env, run, visible

START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOG_BYTES = 10 * 1024 * 1024


class OwnEngine:
    """The engine of one instance. `start` and `stop` are idempotent; containers go on while it is stopped."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.api = EngineApi(instance.engine_socket)
        self.found: dict[str, Found] = {}

    def start(self) -> Firewall:
        """Network, rules, containerd, dockerd; what runs already is kept. Raises HostError with the last log lines."""
        raise_limits()  # where it may not, the doctor says so
        addresses = netns.ensure(self._instance)
        network = look(without=self._instance.veth)
        names = resolvers.choose(own=network.addresses, inner=addresses.inner)
        resolvers.note(self._instance, names)
        firewall = Firewall(self._instance, addresses=addresses)
        firewall.ensure()  # before the first container can run
        self._configure_and_run(addresses, mtu=network.mtu, dns=names.servers)
        return firewall

    def _configure_and_run(self, addresses: Addresses, *, mtu: int, dns: tuple[str, ...]) -> None:
        """The first start of an engine is without our profile, which is made from its default; no agent runs then."""
        profile = seccomp.file(self._instance)
        if not profile.exists():
            self._write_config(addresses, mtu=mtu, dns=dns, profile="")
            self.ensure_running()
            seccomp.make(self._instance, self.api, busybox=busybox.ensure(self._instance))
        self._write_config(addresses, mtu=mtu, dns=dns, profile=str(profile))
        self.ensure_running()

    def ensure_running(self) -> None:
        """Start whichever of the two does not run; clear up what a killed dockerd had begun."""
        self._ensure("containerd", engine_config.containerd_file(self._instance), self._containerd_answers)
        found = bridges.present(self._instance)
        if self._ensure("dockerd", engine_config.dockerd_file(self._instance), self.api.ping):
            bridges.remove(self._instance, found - bridges.of_networks(self.api.json("GET", "/networks")))

    def _write_config(self, addresses: Addresses, *, mtu: int, dns: tuple[str, ...], profile: str) -> None:
        """A running dockerd whose configuration changed is stopped: its containers go on, the new one finds them."""
        instance = self._instance
        _write(Path(engine_config.containerd_file(instance)), engine_config.containerd_toml(instance))
        config = engine_config.dockerd_config(instance, addresses=addresses, mtu=mtu, dns=dns, seccomp=profile)
        if _write(Path(engine_config.dockerd_file(instance)), json.dumps(config, indent=1)):
            self._stop("dockerd", engine_config.dockerd_file(instance))

    def _containerd_answers(self) -> bool:
        return _accepts(Path(engine_config.containerd_socket(self._instance)))

    def _ensure(self, program: str, argument: str, answers: Callable[[], bool]) -> bool:
        """Returns whether it had to be started."""
        found = processes.find(program=program, argument=argument)
        started = found is None
        if found is None:
            found = self._spawn(program, argument)
        self._remember(program, found)
        end = time.monotonic() + START_SECONDS
        while not answers():
            if not found.alive():
                raise HostError(f"{program} ended while starting:\n{self.last_lines(program)}")
            if time.monotonic() > end:
                raise HostError(f"{program} does not answer after {START_SECONDS:.0f} s:\n{self.last_lines(program)}")
            select.select([found.pidfd], [], [], 0.1)
        return started

    def _remember(self, program: str, found: Found) -> None:
        old = self.found.pop(program, None)
        if old is not None:
            processes.reap(old.pid)
            old.close()
        self.found[program] = found

    def _spawn(self, program: str, argument: str) -> Found:
        instance = self._instance
        if program == "dockerd":
            Path(f"{instance.run_root}/docker.pid").unlink(missing_ok=True)  # its number may be another process' now
            argv = engine_config.dockerd_argv(instance)
        else:
            argv = engine_config.containerd_argv(instance)
        env = base_env() | {"HOME": "/root"}
        env |= {name: value for name, value in network_env().items() if name in PROXY_ENV or name.startswith("SSL_")}
        with self._log(program).open("ab") as log:
            # 022: with our own 077 the cgroups of containers would be closed to their own root.
            child = subprocess.Popen(
                [*mount_ns.enter(instance), *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                cwd="/", umask=0o022, start_new_session=True,
            )  # fmt: skip
        child.returncode = 0  # from here on the pidfd is the handle; Popen must neither warn nor reap
        # What enters namespaces and sets limits becomes the program by exec: the number stays.
        return Found(pid=child.pid, pidfd=os.pidfd_open(child.pid), argv=tuple(argv))

    def _log(self, program: str) -> Path:
        log = self._instance.logs / f"{program}.log"
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size > LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))
        return log

    def last_lines(self, program: str) -> str:
        """The end of its log."""
        try:
            lines = (self._instance.logs / f"{program}.log").read_bytes()[-8192:].decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  {visible(line)}" for line in lines[-15:])

    def dead(self) -> str:
        """The name of a part that was started and runs no more, or an empty string."""
        return next((name for name, found in self.found.items() if not found.alive()), "")

    def stop(self) -> None:
        """Stop dockerd, then containerd; containers go on. Where none runs, leave no rule, namespace or mount."""
        dockerd = processes.find(program="dockerd", argument=engine_config.dockerd_file(self._instance))
        empty = dockerd is None or not self._anything_runs()
        if dockerd is not None:
            dockerd.close()
        self._stop("dockerd", engine_config.dockerd_file(self._instance))
        self._stop("containerd", engine_config.containerd_file(self._instance))
        if empty and not self.shims():
            self.clear()

    def _anything_runs(self) -> bool:
        try:
            return bool(self.api.running())
        except (OSError, HostError):
            return True  # it cannot say: leave the agents' network alone

    def _stop(self, program: str, argument: str) -> None:
        found = processes.find(program=program, argument=argument)
        if found is not None:
            processes.end(found, grace=STOP_SECONDS)
            found.close()
        old = self.found.pop(program, None)
        if old is not None:
            processes.reap(old.pid)
            old.close()

    def shims(self) -> bool:
        """Whether a container of ours still runs, engine or not."""
        socket_path = engine_config.containerd_socket(self._instance)
        found = processes.find(program="containerd-shim-runc-v2", argument=socket_path)
        if found is not None:
            found.close()
        return found is not None

    def clear(self) -> None:
        """Take down rules, interface, namespace and the engine's mounts; nothing may run."""
        addresses = netns.noted(self._instance)
        if addresses is not None:
            Firewall(self._instance, addresses=addresses).remove()
        netns.down(self._instance)
        mount_ns.leave(self._instance)
        for place in mounts_below(self._instance.engine_dir, self._instance.run_root):
            run(["umount", "--lazy", place])


def mounts_below(*places: Path) -> list[str]:
    """Mount points below `places`, deepest first."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ")[4].encode().decode("unicode_escape")
        if any(point.startswith(f"{place}/") for place in places):
            found.add(point)
    return sorted(found, key=len, reverse=True)


def _write(file: Path, text: str) -> bool:
    """Write `file` if it differs; returns whether it did."""
    with contextlib.suppress(FileNotFoundError):
        if file.read_text() == text:
            return False
    draft = file.with_suffix(".new")
    draft.write_text(text)
    draft.replace(file)
    return True


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
