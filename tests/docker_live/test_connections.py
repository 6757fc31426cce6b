"""One agent cannot fill the table of connections that all share: the rules of agents in namespaces of the test's."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
from collections.abc import Iterator

import pytest

from agents.host import rules
from agents.host.addresses import choose
from tests.support.machine import run

OUTSIDE, AGENT, SECOND = "198.51.100.1", "192.0.2.2", "192.0.2.3"
# Opens as many connections as it is told, one datagram each, from one address; or asks for one answer.
FLOOD = """
import socket, sys
address, many = sys.argv[1], int(sys.argv[2])
for number in range(many):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((address, 10000 + number))
        one.sendto(b"x", ("198.51.100.1", 7777))
"""
ANSWERED = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind((sys.argv[1], 0))
    one.settimeout(3)
    one.sendto(b"x", ("198.51.100.1", 7777))
    try:
        print(one.recv(10).decode())
    except TimeoutError:
        print("nothing")
"""
ECHO = """
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
one.bind(("198.51.100.1", 7777))
print("listens", flush=True)
while True:
    word, sender = one.recvfrom(10)
    one.sendto(b"heard", sender)
"""


@pytest.fixture
def names() -> Iterator[dict[str, str]]:
    """Three namespaces in a row: agents, the engine's with its rules, and what stands for the world outside."""
    tag = f"jkn{os.getpid() % 100000}"
    made = {part: f"{tag}-{part}" for part in ("agents", "engine", "world")}
    with contextlib.ExitStack() as stack:
        for name in made.values():
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name, check=False)
        link(made["engine"], "docker0", "192.0.2.1/24", made["agents"], "eth0", f"{AGENT}/24")
        link(made["engine"], rules.INNER, "198.51.100.2/24", made["world"], "eth0", f"{OUTSIDE}/24")
        run("ip", "-n", made["agents"], "address", "add", f"{SECOND}/24", "dev", "eth0")
        run("ip", "-n", made["agents"], "route", "add", "default", "via", "192.0.2.1")
        run("ip", "-n", made["world"], "route", "add", "default", "via", "198.51.100.2")
        chains = rules.inner_side(name="x", addresses=choose([]), host=[ipaddress.IPv4Address("203.0.113.1")])
        inside(made["engine"], "sysctl", "-qw", "net.ipv4.ip_forward=1")
        inside(made["engine"], "iptables-restore", "--noflush", text=rules.restore_text(chains))
        for chain in chains:
            inside(made["engine"], "iptables", "-t", chain.table, "-I", chain.parent, *chain.jump.split())
        yield made


def link(one: str, name: str, address: str, other: str, peer: str, peer_address: str) -> None:
    run("ip", "-n", one, "link", "add", name, "type", "veth", "peer", "name", peer, "netns", other)
    for place, interface, wanted in ((one, name, address), (other, peer, peer_address)):
        run("ip", "-n", place, "address", "add", wanted, "dev", interface)
        run("ip", "-n", place, "link", "set", interface, "up")


def inside(namespace: str, *command: str, text: str | None = None) -> str:
    return run("nsenter", f"--net=/run/netns/{namespace}", *command, text=text)


def test_an_agent_that_opens_very_many_connections_leaves_room_for_the_others(names: dict[str, str]) -> None:
    echo = ["nsenter", f"--net=/run/netns/{names['world']}", "/usr/bin/python3", "-c", ECHO]
    with subprocess.Popen(echo, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"listens\n"
            assert inside(names["agents"], "/usr/bin/python3", "-c", ANSWERED, AGENT) == "heard\n"
            inside(names["agents"], "/usr/bin/python3", "-c", FLOOD, AGENT, str(2 * rules.CONNECTIONS))
            count = int(inside(names["engine"], "cat", "/proc/sys/net/netfilter/nf_conntrack_count"))
            assert rules.CONNECTIONS * 0.9 < count <= rules.CONNECTIONS + 10
            assert inside(names["agents"], "/usr/bin/python3", "-c", ANSWERED, AGENT) == "nothing\n"
            assert inside(names["agents"], "/usr/bin/python3", "-c", ANSWERED, SECOND) == "heard\n"
        finally:
            server.kill()
