"""Names resolve in agents and builds when only the host reaches its resolver; nothing else of the host does answer."""

from __future__ import annotations

import os
import pathlib
import pwd
import signal
from collections.abc import Iterator

import pytest

from agents.host import processes
from tests.docker_live.network_kit import ATTACKERS, IMAGE, RESOLVED, Attacker, Net, engine_on_a_fake_host, resolver_on
from tests.support import dns
from tests.support.fake_host import HOST_LAN, HOST_UP, OUTSIDE
from tests.support.knocking import PYTHON, ears, hears, knock
from tests.support.machine import run

pytestmark = pytest.mark.live
NAME = "agent.example"
LOOK_UP = f"""
import socket
try:
    print("found", socket.gethostbyname({NAME!r}))
except OSError as error:
    print("nothing", error)
"""
MANY = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(int(sys.argv[2])):
    try:
        sock.sendto(b"x" * 40, (sys.argv[1], 53))
    except OSError:
        pass
print("sent")
"""

ANSWERS = """
import socket, sys, time
question = bytes.fromhex(sys.argv[2])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(0.05)
sock.connect((sys.argv[1], 53))
end, found = time.monotonic() + 3, 0
for _ in range(16):
    sock.send(question)
while time.monotonic() < end:
    try:
        sock.recv(4096)
        found += 1
    except TimeoutError:
        pass
    sock.send(question)
print("answers", found)
"""


@pytest.fixture(scope="module", params=["127.0.0.1", HOST_UP], ids=["on loopback", "on an address of the host"])
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    """A host whose only resolver is its own, and the engine on it."""
    with (
        engine_on_a_fake_host(resolver=request.param) as found,
        resolver_on(found.host, request.param),
        found.host.forwarder(),
    ):
        yield found


def look_up(net: Net, attacker: Attacker) -> str:
    return net.execute(attacker, PYTHON, "-c", LOOK_UP)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_names_resolve_in_agents_and_builds(net: Net, attacker: Attacker) -> None:
    assert f"found {RESOLVED}" in look_up(net, attacker)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_another_listener_on_port_53_of_the_host_hears_nothing(net: Net, attacker: Attacker) -> None:
    """Only the resolver that resolv.conf names is asked, and by nobody but the forwarder."""
    places = [(HOST_LAN, 53), (str(net.addresses.host), 53)]
    with ears(net.host.inside, places) as listener, ears(net.host.outside.inside, [(OUTSIDE, 7777)]) as outside:
        net.knock(attacker, [*places, (OUTSIDE, 7777)])
        hears(outside, attacker, [(OUTSIDE, 7777)])
        assert listener.heard == []
        knock(net.host.inside, "host", places)
        hears(listener, "host", places)


def test_only_the_one_address_and_port_answers_in_the_namespace(net: Net) -> None:
    other = str(net.addresses.bridge[1])
    places = [(str(net.addresses.inner), 54), (other, 53), (other, 7777)]
    with ears(net.host.engine_space, places) as listener:
        net.knock("agent", places)
        assert listener.heard == []
        knock(net.host.engine_space, "itself", places)
        hears(listener, "itself", places)


def test_users_of_the_host_do_not_reach_the_forwarder(net: Net) -> None:
    ask = f"import socket; s = socket.socket(); s.settimeout(1); s.connect(({str(net.addresses.inner)!r}, 53))"
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with pytest.raises(AssertionError, match="timed out"):
        run(*net.host.inside, *nobody, PYTHON, "-c", ask)
    assert f"found {RESOLVED}" in look_up(net, "agent")


def test_the_forwarder_has_no_right_and_no_descriptor_but_its_two_sockets(net: Net) -> None:
    assert "found" in look_up(net, "agent")  # it is up
    found = forwarders()
    assert len(found) == 1
    pid = found[0]
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    assert set(status["Uid"].split()) == {str(_uid())}
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    # 0 to 2 are nothing and the supervisor's pipe for its log.
    opened = [os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir() if int(link.name) > 2]
    assert [one for one in opened if not one.startswith(("anon_inode:", "socket:"))] == []
    # Two that it inherited, and asyncio's own pair: none of the service's.
    assert len([one for one in opened if one.startswith("socket:")]) == 4


def forwarders() -> list[int]:
    return [pid for pid in processes.of_user(_uid()) if b"dns_forwarder" in _cmdline(pid)]


def _uid() -> int:
    return pwd.getpwnam("jackin-dns").pw_uid


def _cmdline(pid: int) -> bytes:
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_one_agents_flood_leaves_names_to_another(net: Net) -> None:
    flood = [PYTHON, "-c", MANY, str(net.addresses.inner), "2000000"]
    container = net.docker("run", "-d", "--network", net.network, IMAGE, *flood).strip()
    try:
        for _ in range(5):
            assert f"found {RESOLVED}" in look_up(net, "agent")
        assert "true" in net.docker("inspect", "-f", "{{.State.Running}}", container)  # it floods still
    finally:
        net.docker("rm", "-f", container)


def test_one_agent_gets_no_more_than_its_share_of_the_hosts_resolver(net: Net) -> None:
    """A burst of 400 and 200 a second, for the 3 s that it asks as fast as it can; others are answered meanwhile."""
    question = dns.query(NAME).hex()
    said = net.execute("agent", PYTHON, "-c", ANSWERS, str(net.addresses.inner), question)
    found = int(said.split()[-1])
    assert 100 < found <= 400 + 4 * 200


def test_a_killed_forwarder_is_started_again_and_its_sockets_wait(net: Net) -> None:
    assert "found" in look_up(net, "agent")
    (old,) = forwarders()
    os.kill(old, signal.SIGKILL)
    assert f"found {RESOLVED}" in look_up(net, "agent")
    assert old not in forwarders()
