"""Terminals, logs and events: nothing is lost, and everything ends when it should."""

from __future__ import annotations

import threading

import pytest

from agents.engine.types import EngineEvent
from tests.support.engine_kit import Kit, RealKit, read_until, wait_for


def test_what_is_typed_comes_back(kit: Kit) -> None:
    spec = kit.launch_spec()
    made = kit.engine.create_container(spec)
    with kit.engine.attach(made) as stream:
        kit.engine.start(made)
        kit.open_gate(spec)
        stream.sendall(b"hello there\n")
        read_until(stream, b"hello there")


def test_two_streams_see_the_same(kit: Kit) -> None:
    spec = kit.launch_spec()
    made = kit.engine.create_container(spec)
    kit.engine.start(made)
    kit.open_gate(spec)
    with kit.engine.attach(made) as one, kit.engine.attach(made) as two:
        one.sendall(b"for both\n")
        read_until(one, b"for both")
        read_until(two, b"for both")


def test_the_stream_ends_with_the_container(kit: Kit) -> None:
    made = kit.engine.create_container(kit.launch_spec())
    with kit.engine.attach(made) as stream:
        kit.engine.start(made)
        kit.engine.remove_container(made)
        stream.settimeout(20)
        while stream.recv(4096):
            pass


def test_logs_give_the_end_of_the_output_and_no_more(kit: Kit) -> None:
    spec = kit.launch_spec(script="printf '%05000d-the-end\\n'; exec cat")
    made = kit.engine.create_container(spec)
    assert kit.engine.logs(made, most=1000) == b""
    kit.engine.start(made)
    kit.open_gate(spec)
    if not kit.live:
        kit.engine.prints(made, b"0" * 5000 + b"-the-end\r\n")  # type: ignore[attr-defined]
    wait_for("the output", lambda: kit.engine.logs(made, most=10) == b"-the-end\r\n")
    assert kit.engine.logs(made, most=100) == b"0" * 90 + b"-the-end\r\n"
    assert kit.engine.logs(made, most=0) == b""


def test_events_tell_start_and_end_of_ours_only(kit: Kit) -> None:
    seen: list[EngineEvent] = []
    stopped = threading.Event()
    events = kit.engine.events(stop=stopped.is_set)

    def listen() -> None:
        seen.extend(iter(events))

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        kit.add_foreign_container()
        spec = kit.launch_spec()
        made = kit.engine.create_container(spec)
        kit.engine.start(made)
        kit.engine.remove_container(made)
        wait_for("destroy", lambda: any(event.action == "destroy" for event in seen))
    finally:
        stopped.set()
        thread.join(5)
    assert not thread.is_alive()
    assert [event.action for event in seen if event.action in ("start", "die", "destroy")] == [
        "start",
        "die",
        "destroy",
    ]
    assert {(event.container, event.agent) for event in seen} == {(made, spec.agent)}


@pytest.mark.live
def test_no_byte_is_lost_in_a_hundred_attaches(real: RealKit) -> None:
    spec = real.launch_spec(script='stty -echo; echo ready; while read -r line; do echo "<$line>"; done')
    made = real.engine.create_container(spec)
    with real.engine.attach(made) as first:
        real.engine.start(made)
        real.open_gate(spec)
        read_until(first, b"ready\r\n")
    for number in range(100):
        with real.engine.attach(made) as stream:
            stream.sendall(f"{number}\n".encode())
            assert read_until(stream, b"\r\n") == f"<{number}>\r\n".encode()


@pytest.mark.live
def test_the_first_output_of_a_new_container_is_complete(real: RealKit) -> None:
    for number in range(5):
        spec = real.launch_spec(f"n{number}", script="echo the very first words; exec cat")
        made = real.engine.create_container(spec)
        with real.engine.attach(made) as stream:
            real.engine.start(made)
            real.open_gate(spec)
            assert read_until(stream, b"\r\n") == b"the very first words\r\n"
        real.engine.remove_container(made)


@pytest.mark.live
def test_no_key_detaches_or_is_held_back(real: RealKit) -> None:
    spec = real.launch_spec(script="stty raw -echo; echo ready; exec cat")
    made = real.engine.create_container(spec)
    with real.engine.attach(made) as stream:
        real.engine.start(made)
        real.open_gate(spec)
        read_until(stream, b"ready\n")
        for keys in (b"\x10", b"\x11", b"\x10\x11", b"\x03", bytes(range(255))):
            stream.sendall(keys)
            assert read_until(stream, keys) == keys


@pytest.mark.live
def test_resize_reaches_the_terminal(real: RealKit) -> None:
    spec = real.launch_spec(script="stty size; read -r _; stty size; exec cat")
    made = real.engine.create_container(spec)
    with real.engine.attach(made) as stream:
        real.engine.start(made)
        real.engine.resize(made, rows=33, columns=111)
        real.open_gate(spec)
        read_until(stream, b"33 111\r\n")
        real.engine.resize(made, rows=44, columns=99)
        stream.sendall(b"\n")
        read_until(stream, b"44 99\r\n")
