"""What the broker bounds in a container before the gate opens, tried by root of the container."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import pathlib

from agents.broker.counters import TERMINALS
from tests.docker_live.broker_fixtures import ann, home, kit, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit, request, running
from tests.support.engine_kit import BASE

OPEN_ALL = """perl -e 'while (open my $one, "+<", "/dev/ptmx") { push @all, $one } print scalar(@all), " $!"'"""


def test_an_agent_gets_its_own_share_of_terminals(kit: Kit, home: pathlib.Path) -> None:
    """The kernel has 4096 for all containers; without one no agent starts."""
    with running(kit, "ann", request(home, "/workspace/p")) as made:
        for user in ("1000:1000", "0:0"):
            number, _, why = made.execute(OPEN_ALL, user=user).stdout.partition(" ")
            assert TERMINALS - 8 <= int(number) <= TERMINALS
            assert why == "No space left on device"
        for options in ("remount,max=100000", "remount,nosuid,noexec,max=100000"):
            assert made.execute(f"mount -o {options} /dev/pts", user="0:0").returncode
        line = next(line for line in made.execute("cat /proc/mounts").stdout.splitlines() if " /dev/pts " in line)
        assert f"max={TERMINALS}" in line
        assert {f"gid={BASE + 5}", "mode=620", "ptmxmode=666"} <= set(line.split()[3].split(",")), "as Docker made it"
