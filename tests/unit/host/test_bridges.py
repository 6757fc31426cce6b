"""What is taken away with a bridge that no network of the engine owns."""

from __future__ import annotations

from agents.host import bridges

SAVED = """# Generated
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A POSTROUTING -s 10.218.1.0/26 ! -o br-0ec77ee665fd -j MASQUERADE
-A POSTROUTING -s 10.218.2.0/26 ! -o br-111111111111 -j MASQUERADE
-A DOCKER -i br-0ec77ee665fd -j RETURN
COMMIT
*filter
-A FORWARD -o br-0ec77ee665fd -m comment --comment "two words" -j DOCKER
-A FORWARD -j JW-br-0ec77ee665fd
COMMIT
"""


def test_every_rule_that_names_it_goes_and_no_other() -> None:
    assert bridges.rules_of(SAVED, frozenset({"br-0ec77ee665fd"})) == [
        ["-t", "nat", "-D", *["POSTROUTING", "-s", "10.218.1.0/26", "!", "-o", "br-0ec77ee665fd", "-j", "MASQUERADE"]],
        ["-t", "nat", "-D", *["DOCKER", "-i", "br-0ec77ee665fd", "-j", "RETURN"]],
        [
            *["-t", "filter", "-D", "FORWARD", "-o", "br-0ec77ee665fd", "-m", "comment", "--comment"],
            "two words",
            "-j",
            "DOCKER",
        ],
    ]


def test_a_network_s_bridge_has_its_number() -> None:
    assert bridges.of_networks([{"Id": "0ec77ee665fd" + "0" * 52}]) == {"br-0ec77ee665fd"}
