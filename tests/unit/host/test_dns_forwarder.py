"""The forwarder on loopback: whose question gets which answer, and what is never passed on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.host import dns_forwarder, dns_messages
from agents.host.dns_forwarder import Forwarder, Shares
from tests.support import dns


@contextlib.contextmanager
def forwarder(port: int, *upstreams: str) -> Iterator[int]:
    """A running one that asks `upstreams` (default 127.0.0.1) at `port`; its own port."""
    tcp = socket.create_server(("127.0.0.1", 0))
    number = tcp.getsockname()[1]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", number))
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    made = Forwarder(upstreams or ("127.0.0.1",), port=port)
    thread = threading.Thread(target=lambda: loop.run_until_complete(made.run(udp, tcp, stop=stop)))
    thread.start()
    try:
        yield number
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
        udp.close()
        tcp.close()


def ask(port: int, message: bytes, *, seconds: float = 8.0) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        client.sendto(message, ("127.0.0.1", port))
        return client.recv(65535)


def ask_tcp(port: int, message: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=8) as client:
        client.sendall(len(message).to_bytes(2, "big") + message)
        return dns.receive(client)


def test_a_name_is_answered_over_udp_and_tcp_under_the_askers_own_number() -> None:
    with dns.resolver() as upstream, forwarder(upstream.port) as port:
        for way in (ask, ask_tcp):
            message = dns.query("agent.example", number=4711)
            assert way(port, message) == dns.answer(message)


def test_each_question_goes_out_under_a_new_number_from_a_new_port() -> None:
    with dns.resolver() as upstream, forwarder(upstream.port) as port:
        for _ in range(16):
            ask(port, dns.query("agent.example", number=7))
        numbers = {message[:2] for message, _ in upstream.asked}
        ports = {source for _, source in upstream.asked}
        assert len(numbers) > 8
        assert len(ports) > 8


def test_an_answer_with_a_wrong_number_or_to_another_question_is_passed_over() -> None:
    def answers(asked: bytes) -> list[bytes]:
        wrong = (int.from_bytes(asked[:2], "big") + 1) % 65536
        other = dns.query("evil.example", number=int.from_bytes(asked[:2], "big"))
        return [dns.answer(asked, "192.0.2.1", number=wrong), dns.answer(other, "192.0.2.2"), dns.answer(asked)]

    with dns.resolver(answers) as upstream, forwarder(upstream.port) as port:
        message = dns.query("agent.example")
        assert ask(port, message) == dns.answer(message)


def test_an_answer_that_is_sent_to_the_forwarder_goes_to_nobody() -> None:
    """One agent sends a forged answer to the forwarder while another's question waits."""
    waiting = threading.Event()

    def answers(asked: bytes) -> list[bytes]:
        waiting.wait(5)
        return [dns.answer(asked)]

    with dns.resolver(answers) as upstream, forwarder(upstream.port) as port:
        victim, thief = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with victim, thief:
            victim.settimeout(8)
            message = dns.query("agent.example")
            victim.sendto(message, ("127.0.0.1", port))
            for number in range(0, 65536, 64):
                thief.sendto(dns.answer(message, "192.0.2.66", number=number), ("127.0.0.1", port))
            waiting.set()
            assert victim.recv(4096) == dns.answer(message)
            thief.settimeout(0.2)
            with pytest.raises(TimeoutError):
                thief.recv(4096)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(dns.query("a.example", flags=0x2800), id="an update of a zone"),
        pytest.param(dns.query("a.example", flags=0x2000), id="a notification"),
        pytest.param(dns.query("a.example", flags=0x8180), id="an answer"),
        pytest.param(dns.query("a.example")[:11], id="a short one"),
        pytest.param(dns.query("a.example")[:-1], id="a question without an end"),
        pytest.param(struct.pack(">HHHHHH", 1, 0x0100, 2, 0, 0, 0) + dns.question("a.b") * 2, id="two questions"),
        pytest.param(struct.pack(">HHHHHH", 1, 0x0100, 1, 1, 0, 0) + dns.question("a.b"), id="with an answer"),
        pytest.param(struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", id="a compressed name"),
        pytest.param(dns.query(".".join(["x" * 60] * 5)), id="a name that is too long"),
        pytest.param(dns.query("a.example") + b"\0" * 4096, id="more than 4096 bytes"),
    ],
)
def test_what_is_no_plain_question_never_reaches_the_hosts_resolver(message: bytes) -> None:
    with dns.resolver() as upstream, forwarder(upstream.port) as port:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(message, ("127.0.0.1", port))
        ask(port, dns.query("later.example"))  # it went on, and this came after
        assert [dns.question("later.example") in asked for asked, _ in upstream.asked] == [True]


@pytest.mark.parametrize(("kind", "family"), [(252, 1), (251, 1), (16, 3)])
def test_what_only_programs_of_the_host_may_ask_is_refused(kind: int, family: int) -> None:
    with dns.resolver() as upstream, forwarder(upstream.port) as port:
        message = dns.query("zone.example", kind=kind, family=family)
        assert dns.code(ask(port, message)) == dns.code(ask_tcp(port, message)) == dns_messages.REFUSED
        assert upstream.asked == []


def test_an_answer_that_is_too_long_for_udp_says_ask_over_tcp() -> None:
    with dns.resolver(lambda asked: [dns.answer(asked) + b"\0" * 5000]) as upstream, forwarder(upstream.port) as port:
        message = dns.query("agent.example")
        short = ask(port, message)
        assert len(short) < 512
        assert short[2] & 0x02
        assert len(ask_tcp(port, message)) > 5000


def test_where_no_resolver_answers_the_asker_hears_so_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        unused = taken.getsockname()[1]
    with forwarder(unused) as port:
        assert dns.code(ask(port, dns.query("a.example"), seconds=2)) == dns_messages.SERVER_FAILURE


def test_the_next_resolver_is_asked_when_the_first_is_gone() -> None:
    with dns.resolver() as upstream, forwarder(upstream.port, "127.0.0.2", "127.0.0.1") as port:
        message = dns.query("a.example")
        assert ask(port, message) == dns.answer(message)


def test_one_clients_unanswered_questions_leave_room_for_another() -> None:
    shares = Shares(most=6, per_client=4)
    assert [shares.take("one") for _ in range(6)] == [True] * 4 + [False] * 2
    assert [shares.take("two") for _ in range(3)] == [True, True, False]
    shares.give_back("one")
    assert shares.take("two")


def test_no_client_has_more_questions_in_hand_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_forwarder, "TRY_SECONDS", 0.5)
    with dns.resolver(lambda _: []) as upstream, forwarder(upstream.port) as port:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(8)
            for number in range(100):
                client.sendto(dns.query("a.example", number=number), ("127.0.0.1", port))
            for _ in range(dns_forwarder.MOST_PER_CLIENT):
                assert dns.code(client.recv(4096)) == dns_messages.SERVER_FAILURE
        assert len(upstream.asked) == dns_forwarder.MOST_PER_CLIENT


def test_no_client_has_more_connections_than_its_share() -> None:
    with dns.resolver() as upstream, forwarder(upstream.port) as port, contextlib.ExitStack() as stack:
        most = dns_forwarder.MOST_CONNECTIONS_PER_CLIENT
        many = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=8)) for _ in range(most)]
        message = dns.query("a.example")
        with socket.create_connection(("127.0.0.1", port), timeout=8) as late, contextlib.suppress(ConnectionError):
            assert late.recv(1) == b""
        for client in many:
            client.sendall(len(message).to_bytes(2, "big") + message)
            assert dns.receive(client) == dns.answer(message)


@given(st.binary(max_size=600))
def test_any_bytes_are_a_question_or_nothing(message: bytes) -> None:
    found = dns_messages.read_query(message)
    assert found is None or message[12:].startswith(found.question)
