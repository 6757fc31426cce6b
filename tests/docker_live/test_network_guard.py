"""Rules that somebody empties by hand are back within 30 s, written down, and no agent starts without them.

The guard's real process, on a host of the test's own, whose rules can be broken without harm to this machine.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from agents.broker import wire
from agents.host.children import Listener, bind
from tests.support.fake_host import INSTANCE, OUTSIDE, TREE, FakeHost, fake_host
from tests.support.knocking import PYTHON, ears, hears, knock
from tests.support.machine import run
from tests.support.service import wait_for

pytestmark = pytest.mark.live
TABLES = ("mangle", "nat", "filter")


@pytest.fixture(scope="module")
def host() -> Iterator[FakeHost]:
    """A host with our network and rules on it."""
    with fake_host() as found:
        found.do("network")
        yield found


@pytest.fixture
def guard(host: FakeHost) -> Iterator[FakeHost]:
    """The guard's process; it looked once already."""
    listening = bind(Listener(path=INSTANCE.guard_socket, group="root"))
    number = listening.fileno()
    env = [f"PYTHONPATH={TREE}", f"JACKIN_INSTANCE={INSTANCE.name}", f"JACKIN_FD_GUARD={number}"]
    argv = [*host.inside, "env", "-i", *env, PYTHON, "-B", "-m", "agents.host.guard"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=[number])
    try:
        assert ask("history")["ok"]
        yield host
    finally:
        process.terminate()
        process.wait(10)
        listening.close()
        INSTANCE.guard_socket.unlink()


def ask(op: str) -> dict[str, Any]:
    return wire.call(INSTANCE.guard_socket, {"v": 1, "op": op}, timeout=60)


def rules(host: FakeHost) -> list[str]:
    """All rules on both sides, and the routes that forbid."""
    return [
        *(line for line in host.run("iptables-save").splitlines() if line.startswith("-A")),
        *(line for line in host.run("ip6tables-save").splitlines() if line.startswith("-A")),
        *(line for line in run(*host.engine_space, "iptables-save").splitlines() if line.startswith("-A")),
        *sorted(run(*host.engine_space, "ip", "route", "show", "type", "prohibit").splitlines()),
    ]


def empty(host: FakeHost) -> None:
    """As `iptables -F` by hand, in every table, on both sides."""
    for inside in (host.inside, host.engine_space):
        for table in TABLES:
            run(*inside, "iptables", "-w", "-t", table, "-F")
    host.run("ip6tables", "-w", "-t", "mangle", "-F")
    run(*host.engine_space, "ip", "route", "flush", "type", "prohibit")
    assert rules(host) == []


def recorded_since(before: list[dict[str, str]]) -> list[str]:
    """What the guard wrote down since its history was `before`."""
    return [entry["what"] for entry in ask("history")["history"][len(before) :]]


def test_emptied_rules_are_back_within_30_seconds_and_written_down(guard: FakeHost) -> None:
    wanted, before = rules(guard), ask("history")["history"]
    assert len(wanted) > 20
    empty(guard)
    wait_for("the rules to be back", lambda: rules(guard) == wanted, seconds=30)
    wait_for("the record", lambda: recorded_since(before))
    assert recorded_since(before) == ["rules of the host were changed or removed"]


def test_a_launch_puts_emptied_rules_back_first(guard: FakeHost) -> None:
    wanted, before = rules(guard), ask("history")["history"]
    empty(guard)
    assert ask("network_ready") == {"ok": True}
    assert rules(guard) == wanted
    assert recorded_since(before) == ["rules of the host were changed or removed"]
    assert ask("network_ready") == {"ok": True}
    assert len(recorded_since(before)) == 1


@pytest.mark.parametrize(
    ("inner", "command"),
    [
        (False, "iptables -w -t mangle -D FORWARD -j JW-jknet-FORW"),
        (False, "iptables -w -t mangle -I JW-jknet-INPU 1 -j ACCEPT"),
        (False, "ip6tables -w -t mangle -F JW-jknet-OUTP"),
        (False, "iptables -w -t nat -F"),
        (True, "iptables -w -t mangle -D FORWARD -j JW-jknet-FORW"),
        (True, "iptables -w -t mangle -I JW-jknet-INPU 1 -j RETURN"),
        (True, "ip route del prohibit 169.254.0.0/16"),
        (False, "sysctl -qw net.ipv4.conf.up0.forwarding=0"),
    ],
)
def test_each_single_change_is_seen_and_undone(guard: FakeHost, inner: bool, command: str) -> None:
    wanted, before = rules(guard), ask("history")["history"]
    run(*(guard.engine_space if inner else guard.inside), *command.split())
    assert ask("network_ready") == {"ok": True}
    assert rules(guard) == wanted
    assert guard.run("sysctl", "-n", "net.ipv4.conf.up0.forwarding").strip() == "1"
    assert len(recorded_since(before)) == 1


def test_rules_that_cannot_be_set_refuse_every_launch_until_they_can(guard: FakeHost) -> None:
    wanted, before = rules(guard), ask("history")["history"]
    guard.run("mount", "-t", "tmpfs", "tmpfs", "/usr/local/sbin")
    try:
        for name in ("iptables-restore", "ip6tables-restore"):
            guard.run("ln", "-s", "/bin/false", f"/usr/local/sbin/{name}")
        empty(guard)
        for _ in range(2):
            refused = ask("network_ready")
            assert (refused["ok"], refused.get("code")) == (False, "firewall")
        assert rules(guard) == []
        assert all(what.startswith("not repaired: ") for what in recorded_since(before))
        assert len(recorded_since(before)) == 2
    finally:
        guard.run("umount", "/usr/local/sbin")
    assert ask("network_ready") == {"ok": True}
    assert rules(guard) == wanted


def test_a_host_that_begins_to_forward_is_left_alone_again(guard: FakeHost) -> None:
    """An ordinary engine that starts after us makes the host forward: its containers must not lose their way."""
    places = [(OUTSIDE, 7777)]
    with ears(guard.outside.inside, places) as outside:
        guard.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        assert ask("network_ready") == {"ok": True}
        knock(guard.lan.inside, "lan", places)
        hears(outside, "lan", places)
    guard.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    assert ask("network_ready") == {"ok": True}
    assert guard.run("sysctl", "-n", "net.ipv4.conf.up0.forwarding").strip() == "1"
