"""Our own engine on this machine: up, down, crash and repair, as an instance of its own beside any other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents.broker import wire
from agents.host import addresses, busybox, container_checks, engine_config, layout, netns, packages, processes, users
from agents.host.children import Listener, bind
from agents.host.guard import Guard, make_firewall
from agents.host.guard import run as run_guard
from agents.host.instance import Instance
from agents.host.own_engine import OwnEngine, mounts_below
from agents.host.trial import Trials, trials
from tests.support.machine import emptied

pytestmark = pytest.mark.live
INSTANCE = Instance(name="jkhostt", port=8098)
COUNTER = "n=0; while :; do n=$((n+1)); echo line $n; busybox sleep 0.1; done"


def wait_for(what: str, look: Callable[[], bool], *, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def _traces() -> list[str]:
    """Whatever of our instance is to be seen on the host."""
    rules = [line for line in (_output("iptables-save") + _output("ip6tables-save")).splitlines() if "jkhostt" in line]
    links = [line for line in _output("ip", "-o", "link").splitlines() if "jkhostt" in line]
    spaces = [line for line in _output("ip", "netns").splitlines() if line.split()[0] == INSTANCE.netns]
    return rules + links + spaces + mounts_below(INSTANCE.data)


@pytest.fixture(scope="module")
def place(turn: None) -> Iterator[Instance]:
    assert os.geteuid() == 0, "docker_live needs root"
    packages.ensure()
    users.ensure_users()
    layout.ensure(layout.table(INSTANCE))
    layout.ensure(layout.code_table(INSTANCE))
    OwnEngine(INSTANCE).stop()
    yield INSTANCE
    for tree in (INSTANCE.data, INSTANCE.code, INSTANCE.logs):
        assert not mounts_below(tree)
        subprocess.run(["rm", "-rf", "--one-file-system", str(tree)], check=True)


@pytest.fixture
def engine(place: Instance) -> Iterator[OwnEngine]:
    made = OwnEngine(place)
    made.start()
    yield made
    # An engine that has just been killed and started may not find a container's process at its first try.
    wait_for("the containers to be gone", lambda: emptied(made.api))
    made.stop()
    assert _traces() == []


@pytest.fixture
def made(engine: OwnEngine) -> Iterator[Trials]:
    with trials(engine.api, busybox.ensure(INSTANCE)) as found:
        yield found


def _lines(made: Trials, container: str) -> int:
    return made.output(container).count("line ")


def _started(engine: OwnEngine, made: Trials, script: str = COUNTER) -> str:
    container = made.create(script, tty=True)
    engine.api.call("POST", f"/containers/{container}/start")
    wait_for("output", lambda: bool(made.output(container)))
    return container


def test_second_start_keeps_what_runs(engine: OwnEngine) -> None:
    before = {name: found.pid for name, found in engine.found.items()}
    again = OwnEngine(INSTANCE)
    again.start()
    assert {name: found.pid for name, found in again.found.items()} == before


def test_containers_outlive_a_stop_and_are_found_again(engine: OwnEngine, made: Trials) -> None:
    container = _started(engine, made)
    pid = engine.api.json("GET", f"/containers/{container}/json")["State"]["Pid"]
    engine.stop()
    assert processes.find(program="dockerd", argument=engine_config.dockerd_file(INSTANCE)) is None
    assert Path(f"/proc/{pid}").exists()
    assert netns.is_up(INSTANCE)  # the container's way to the world stays, with its rules
    engine.start()
    seen = _lines(made, container)
    wait_for("more output of the same container", lambda: _lines(made, container) > seen)
    assert engine.api.json("GET", f"/containers/{container}/json")["State"]["Pid"] == pid


def test_container_can_be_attached_after_a_second_start(engine: OwnEngine, made: Trials) -> None:
    container = _started(engine, made)
    engine.stop()
    engine.start()
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(str(INSTANCE.engine_socket))
        path = f"/containers/{container}/attach?stream=1&stdout=1&stdin=1"
        stream.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n".encode())
        data = b""
        while b"line " not in data:
            piece = stream.recv(4096)
            assert piece, data
            data += piece


@pytest.mark.parametrize("program", ["dockerd", "containerd"])
def test_a_killed_part_is_seen_and_brought_back(engine: OwnEngine, made: Trials, program: str) -> None:
    container = _started(engine, made)
    os.kill(engine.found[program].pid, signal.SIGKILL)
    wait_for("the death is seen", lambda: engine.dead() == program)
    engine.ensure_running()
    seen = _lines(made, container)
    wait_for("more output of the same container", lambda: _lines(made, container) > seen)


def test_what_a_killed_engine_had_begun_is_cleared_up(engine: OwnEngine, made: Trials) -> None:
    """A bridge of a network that it never wrote down, with a rule; those of networks that it knows stay."""
    known = f"br-{engine.api.json('POST', '/networks/create', body={'Name': 'jkhostt-known'})['Id'][:12]}"
    inside = ["nsenter", f"--net={netns.path(INSTANCE)}"]
    _output("ip", "-n", INSTANCE.netns, "link", "add", "br-0123456789ab", "type", "bridge")
    _output(*inside, *["iptables", "-t", "nat", "-A", "POSTROUTING", "!", "-o", "br-0123456789ab", "-j", "MASQUERADE"])
    try:
        os.kill(engine.found["dockerd"].pid, signal.SIGKILL)
        wait_for("the death is seen", lambda: engine.dead() == "dockerd")
        engine.ensure_running()
        seen = _output("ip", "-n", INSTANCE.netns, "link") + _output(*inside, "iptables-save")
        assert "br-0123456789ab" not in seen
        assert known in seen
    finally:
        engine.api.call("DELETE", "/networks/jkhostt-known")


def test_root_in_a_container_is_nobody_here_and_limits_hold(made: Trials) -> None:
    container_checks.remapping(made)
    container_checks.capabilities(made)
    container_checks.resource_limits(made)


def test_agents_reach_neither_host_nor_each_other(engine: OwnEngine, made: Trials) -> None:
    container_checks.host_unreachable(INSTANCE, made)
    container_checks.agents_apart(engine.api, made)


def test_agents_do_not_reach_the_namespace_itself(made: Trials) -> None:
    """A listener of ours inside the namespace, on every address of it, hears nothing."""
    found = netns.noted(INSTANCE)
    assert found is not None
    listen = ["nsenter", f"--net={netns.path(INSTANCE)}", "busybox", "nc", "-l", "-p", "7771"]
    with subprocess.Popen(listen, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as listener:
        places = (found.bridge[1], found.inner, found.host)
        tries = [f"echo x | busybox timeout 2 busybox nc {address} 7771 &" for address in places]
        made.run(" ".join([*tries, "wait"]))
        listener.kill()
        assert listener.stdout is not None
        assert listener.stdout.read() == b""


def test_host_users_do_not_reach_the_namespace(engine: OwnEngine) -> None:
    found = netns.noted(INSTANCE)
    assert found is not None
    listen = ["nsenter", f"--net={netns.path(INSTANCE)}", "busybox", "nc", "-l", "-p", "7772"]
    with subprocess.Popen(listen, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as listener:
        with socket.socket() as client:
            client.settimeout(1.0)
            with pytest.raises(OSError, match=r"timed out|No route|refused|unreachable"):
                client.connect((str(found.inner), 7772))
        listener.kill()


@pytest.fixture
def neighbour() -> Iterator[str]:
    """Another network of the host, as a bridge or a VPN would be; returns the address of the machine in it."""
    space, address = "jkhostt-n", "198.51.100.7"
    inside = ["ip", "-n", space]
    _output("ip", "netns", "add", space)
    try:
        _output("ip", "link", "add", "jkhostt-d", "type", "veth", "peer", "name", "eth0", "netns", space)
        _output("ip", "addr", "add", "198.51.100.1/24", "dev", "jkhostt-d")
        _output("ip", "link", "set", "jkhostt-d", "up")
        _output(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
        _output(*inside, "link", "set", "eth0", "up")
        _output(*inside, "route", "add", "default", "via", "198.51.100.1")
        yield address
    finally:
        subprocess.run(["ip", "link", "del", "jkhostt-d"], check=False)
        _output("ip", "netns", "del", space)


def test_another_network_of_the_host_is_not_reached(made: Trials, neighbour: str) -> None:
    program = ["busybox", "nc", "-ll", "-p", "7773", "-e", "busybox", "echo", "heard"]
    listen = ["nsenter", "--net=/run/netns/jkhostt-n", *program]
    with subprocess.Popen(listen, stdin=subprocess.DEVNULL) as listener:
        try:
            wait_for("the host itself reaches it", lambda: _hears(neighbour, 7773))
            make_firewall(INSTANCE).ensure()
            knock = "busybox timeout 2 busybox nc"
            answer = made.run(f"{knock} {neighbour} 7773; {knock} 198.51.100.1 7773")
            assert "heard" not in answer.output
        finally:
            listener.kill()


def _hears(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2) as client:
            return client.recv(16).startswith(b"heard")
    except OSError:
        return False


@pytest.mark.parametrize("table", ["mangle", "nat", "filter"])
def test_the_guard_repairs_and_records_a_flush(engine: OwnEngine, tmp_path: Path, table: str) -> None:
    firewall = make_firewall(INSTANCE)
    firewall.ensure()
    guard = Guard(firewall.ensure, tmp_path / "history.json")
    assert guard.look() == ""
    chains = [c for c in firewall.wanted()[0][0].chains if c.table == table and c.family == "iptables"]
    for chain in chains:  # only ours: other services' rules on this machine are none of this test's business
        _output("iptables", "-w", "-t", table, "-D", chain.parent, "-j", chain.name)
        _output("iptables", "-w", "-t", table, "-F", chain.name)
        _output("iptables", "-w", "-t", table, "-X", chain.name)
    assert guard.look() == ""
    # Another service on this machine may come or go meanwhile: then the rules are made anew for that reason.
    assert {entry["what"] for entry in guard.history} & {
        "rules of the host were changed or removed",
        "the host's network changed",
    }
    saved = _output("iptables-save", "-t", table)
    assert all(f"-A {chain.parent} -j {chain.name}" in saved for chain in chains)
    assert guard.look() == ""


def test_the_guard_repairs_the_namespace_too(engine: OwnEngine, tmp_path: Path) -> None:
    firewall = make_firewall(INSTANCE)
    firewall.ensure()
    guard = Guard(firewall.ensure, tmp_path / "history.json")
    _output("nsenter", f"--net={netns.path(INSTANCE)}", "iptables", "-t", "mangle", "-F")
    _output("ip", "-n", INSTANCE.netns, "route", "del", "prohibit", "169.254.0.0/16")
    assert guard.look() == ""
    assert guard.history
    assert "prohibit 169.254.0.0/16" in _output("ip", "-n", INSTANCE.netns, "route", "show", "type", "prohibit")


def test_the_guard_answers_on_its_socket(engine: OwnEngine, tmp_path: Path) -> None:
    firewall = make_firewall(INSTANCE)
    firewall.ensure()
    listening = bind(Listener(path=tmp_path / "guard.sock", group="root"))
    stop, writer = os.pipe()
    guard = Guard(firewall.ensure, tmp_path / "history.json")
    thread = threading.Thread(target=run_guard, args=(guard, listening), kwargs={"stop": stop})
    thread.start()
    try:
        assert wire.call(tmp_path / "guard.sock", {"v": 1, "op": "network_ready"}, timeout=5) == {"ok": True}
        refused = wire.call(tmp_path / "guard.sock", {"v": 1, "op": "network_ready", "x": 1}, timeout=5)
        assert (refused["ok"], refused["code"]) == (False, "bad-request")
        assert wire.call(tmp_path / "guard.sock", {"v": 1, "op": "history"}, timeout=5)["ok"]
    finally:
        os.write(writer, b"x")
        thread.join()
        listening.close()
        os.close(stop)
        os.close(writer)


def test_addresses_avoid_the_hosts_own(engine: OwnEngine) -> None:
    found = netns.noted(INSTANCE)
    assert found is not None
    assert addresses.is_free(found, addresses.look(without=INSTANCE.veth).routes)


def test_stop_without_containers_leaves_nothing(place: Instance) -> None:
    engine = OwnEngine(place)
    engine.start()
    assert _traces()
    engine.stop()
    assert _traces() == []
    engine.stop()
