"""Rules for mounts that need no disk: each bad input gets its message at its field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.types import CheckedMount, MountProblem, MountRequest
from agents.operations import mounts


def mount(source: str = "/home/alice/p", destination: str = "/workspace/p", mode: str = "rw") -> MountRequest:
    return MountRequest(source=source, destination=destination, mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "Give a path"),
        ("home/alice", "relative"),
        ("/home/alice/../bob", ".."),
        ("/home/al\x1bice", "control characters"),
        ("/home/alice\n", "control characters"),
        ("/home/\u2028x", "control characters"),
        ("/" + "a/" * 5000, "10001 bytes"),
        ("/" + "a" * 300, "longer than 255"),
        ("/", "whole file system"),
        ("//", "whole file system"),
        ("/etc", "belongs to the system"),
        ("/etc/ssh", "belongs to the system"),
        ("/./etc/", "belongs to the system"),
        ("/run", "belongs to the system"),
        ("/var/run/x", "belongs to the system"),
        ("/proc/1/root", "belongs to the system"),
        ("/tmp", "shared by everybody"),
        ("/var/tmp/", "shared by everybody"),
        ("/var/lib/jackin-web", "container engine or this service"),
        ("/var/lib/jackin-web/engine/x", "container engine or this service"),
        ("/var/lib/docker/volumes", "container engine or this service"),
        ("/var/lib", "contains"),
        ("/opt", "contains"),
    ],
)
def test_refused_sources(source: str, says: str) -> None:
    assert says in " ".join(mounts.mount_list_problems([mount(source=source)])["mounts.0.source"])


@pytest.mark.parametrize(
    "source", ["/home/alice/p", "/tmp/alice", "/srv/x", "/etcetera", "/home/alice/ü x", "/variable"]
)
def test_possible_sources(source: str) -> None:
    assert mounts.source_problems(source) == []


@pytest.mark.parametrize(
    "destination",
    [
        *("/", "/proc", "/sys/x", "/dev", "/run/jackin/gate", "/etc", "/usr/local", "/bin", "/sbin", "/lib", "/lib64"),
        *("/boot", "/var", "/var/lib", "/tmp", "/root", "/root/x", "/home", "/home/claude", "/home/bob", "/jackin/x"),
        *("", "workspace", "/workspace/..", "/workspace/\x07", "/" + "x" * 10_000),
    ],
)
def test_refused_destinations(destination: str) -> None:
    assert mounts.mount_list_problems([mount(destination=destination)])["mounts.0.destination"]


@pytest.mark.parametrize(
    "destination", ["/workspace", "/workspace/x", "/home/claude/x", "/srv/x", "/mnt/x", "/data", "/opt/x", "/tmp/x"]
)
def test_possible_destinations(destination: str) -> None:
    assert mounts.mount_list_problems([mount(destination=destination)]) == {}


def test_two_mounts_on_one_destination_are_told_at_the_second() -> None:
    found = mounts.mount_list_problems([mount(), mount(source="/home/alice/q", destination="/workspace//p/")])
    assert list(found) == ["mounts.1.destination"]
    assert "Mount 1 goes to /workspace/p already" in found["mounts.1.destination"][0]


def test_destinations_inside_each_other() -> None:
    assert (
        "inside each other"
        in mounts.mount_list_problems([mount(), mount(destination="/workspace/p/q")])["mounts.1.destination"][0]
    )


def test_the_list_as_a_whole() -> None:
    assert "at least one" in mounts.mount_list_problems([])["mounts"][0]
    many = [mount(destination=f"/data/{n}") for n in range(mounts.MOST_MOUNTS + 1)]
    assert "too many" in mounts.mount_list_problems(many)["mounts"][0]
    long = "/data/" + "/".join(["x" * 200] * 15)
    big = [mount(source=f"{long}/{n}", destination=f"/data/{n}") for n in range(15)]
    assert "bytes" in mounts.mount_list_problems(big)["mounts"][0]


def test_an_unknown_mode() -> None:
    assert mounts.mount_list_problems([mount(mode="rwx")])["mounts.0.mode"]


def test_messages_show_no_raw_control_characters() -> None:
    assert "\x1b" not in str(mounts.mount_list_problems([mount(source="/x\x1b[31m")]))
    assert "\\x1b" in str(mounts.mount_list_problems([mount(source="/x\x1b[31m")]))


def test_the_brokers_answers_go_to_their_fields() -> None:
    found = mounts.broker_problems(
        [
            CheckedMount(source="/a", real_path="/a", device=1, inode=2, fstype="ext4"),
            MountProblem(code="missing", message="/b does not exist."),
            MountProblem(code="destination-refused", message="no"),
            MountProblem(code="not-writable", message="only readable"),
            MountProblem(code="not-linked", message="nobody"),
        ]
    )
    assert found == {
        "mounts.1.source": ["/b does not exist."],
        "mounts.2.destination": ["no"],
        "mounts.3.mode": ["only readable"],
        "mounts": ["nobody"],
    }


def test_default_destination() -> None:
    assert mounts.default_destination("/home/alice/my project/") == "/workspace/my project"
    assert mounts.default_destination("/") == "/workspace"
    assert mounts.default_destination("") == "/workspace"


@given(st.text(max_size=300))
def test_any_text_gets_an_answer_and_never_passes_what_is_refused(text: str) -> None:
    if not mounts.source_problems(text):
        path = mounts.normal(text)
        assert text.startswith("/")
        assert path != "/"
        assert not any(mounts.is_within(path, tree) for tree in ("/etc", "/run", "/proc", "/var/lib/docker"))
