"""The profile of system calls: the engine's own default, with less."""

from __future__ import annotations

from typing import Any

import pytest

from agents.host import seccomp
from agents.host.shell import HostError

DEFAULT: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "syscalls": [
        {"names": ["read", "socket", "socketcall", "io_uring_setup", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["io_uring_enter", "io_uring_register"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ],
}


def allowed(profile: dict[str, Any], name: str) -> list[Any]:
    """The conditions under which a call is allowed, one for each rule."""
    rules = profile["syscalls"]
    return [rule.get("args") for rule in rules if name in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW"]


def test_what_reaches_past_the_walls_is_taken_out_and_the_rest_stays() -> None:
    found = seccomp.narrowed(DEFAULT)
    for name in ("socketcall", "io_uring_setup", "io_uring_enter", "io_uring_register"):
        assert allowed(found, name) == []
    assert allowed(found, "read") == allowed(found, "write") == [None]
    assert {key: found[key] for key in ("defaultAction", "architectures")} == {
        key: DEFAULT[key] for key in ("defaultAction", "architectures")
    }
    assert DEFAULT["syscalls"][2] in found["syscalls"]


def test_sockets_are_allowed_by_equal_families_only() -> None:
    conditions = allowed(seccomp.narrowed(DEFAULT), "socket")
    assert [(one["index"], one["value"], one["op"]) for (one,) in conditions] == [
        (0, family, "SCMP_CMP_EQ") for family in (1, 2, 10, 16)
    ]


def test_a_default_that_allows_what_it_does_not_name_is_refused() -> None:
    with pytest.raises(HostError, match="allows what it does not name"):
        seccomp.narrowed({**DEFAULT, "defaultAction": "SCMP_ACT_ALLOW"})
