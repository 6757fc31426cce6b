"""Which page may open a terminal, and what its messages may be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.terminals.protocol import FrameDecoder, Size
from agents.web.origin import same_origin
from agents.web.terminal import protocol
from agents.web.terminal.protocol import (
    DEFAULT_SIZE,
    MOST_INPUT,
    BadMessage,
    frame_of,
    message_of,
    size_in,
)


def asks(origin: str | None, *, host: str = "localhost:8000", scheme: str = "ws") -> bool:
    headers = [(b"host", host.encode("latin-1")), (b"cookie", b"a=b")]
    if origin is not None:
        headers.append((b"origin", origin.encode("latin-1")))
    return same_origin(headers, scheme=scheme)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://localhost:8000", "localhost:8000", "ws"),
        ("http://LOCALHOST:8000", "localhost:8000", "ws"),
        ("http://[::1]:8000", "[::1]:8000", "ws"),
        ("http://station", "station:80", "ws"),
        ("http://station:80", "station", "ws"),
        ("https://station", "station:443", "wss"),
        ("https://station:8443", "station:8443", "wss"),
    ],
)
def test_the_same_origin_may(origin: str, host: str, scheme: str) -> None:
    assert asks(origin, host=host, scheme=scheme)


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "http://localhost:8001",
        "http://localhost",
        "http://localhost:80",
        "https://localhost:8000",
        "ws://localhost:8000",
        "http://127.0.0.1:8000",
        "http://evil.example:8000",
        "http://localhost.evil.example:8000",
        "http://localhost:8000.evil.example",
        "http://evil@localhost:8000",
        "http://:@localhost:8000",
        "http://localhost:8000/",
        "http://localhost:8000/x",
        "http://localhost:8000?",
        "http://localhost:8000#",
        "http://localhost:8000 http://localhost:8000",
        " http://localhost:8000",
        "http://localhost:8000\t",
        "http://localhost:99999",
        "http://localhost:x",
        "//localhost:8000",
        "localhost:8000",
        "file://localhost:8000",
        "chrome-extension://localhost",
    ],
)
def test_another_origin_may_not(origin: str | None) -> None:
    assert not asks(origin)


def test_scheme_and_host_of_the_request_count() -> None:
    assert not asks("http://station", host="station", scheme="wss")
    assert not asks("https://station", host="station", scheme="ws")
    assert not asks("http://station", host="")
    assert not same_origin([(b"origin", b"http://station")], scheme="ws")


@given(origin=st.text(st.characters(max_codepoint=255), max_size=40))
def test_no_other_text_is_the_same_origin(origin: str) -> None:
    if origin.lower() != "http://localhost:8000":
        assert not asks(origin)


@pytest.mark.parametrize(
    "message",
    [
        {"bytes": bytes(MOST_INPUT + 1)},
        {"bytes": None, "text": None},
        {},
        {"text": "x" * 2000},
        {"text": "{"},
        {"text": "[]"},
        {"text": '{"type":"ack","bytes":-1}'},
        {"text": '{"type":"ack","bytes":1.5}'},
        {"text": '{"type":"ack","bytes":1,"more":2}'},
        {"text": '{"type":"resize","rows":10,"columns":true}'},
        {"text": '{"type":"resize","rows":10,"columns":100000}'},
        {"text": '{"type":"attach","attach":"0123456789abcdef0123456789abcdef"}'},
    ],
)
def test_what_the_page_never_sends_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        frame_of(message)


def test_what_the_page_sends_becomes_a_frame() -> None:
    for message, frame in [
        ({"bytes": b"ls\r"}, b"ls\r"),
        ({"text": json.dumps({"type": "ack", "bytes": 9})}, {"ack": 9}),
        ({"text": json.dumps({"type": "resize", "rows": 2, "columns": 3})}, {"resize": [2, 3]}),
    ]:
        assert FrameDecoder().feed(frame_of(message)) == [frame]


def test_a_control_of_terminals_becomes_a_message_and_nothing_else_does() -> None:
    assert message_of({"ready": True, "replay": 7}) == {"type": "ready", "replay": 7}
    assert message_of({"waiting": True}) == {"type": "waiting", "waiting": True}
    assert message_of({"ended": "x"}) == {"type": "ended", "reason": "x"}
    assert message_of({"something": 1}) is None


@pytest.mark.parametrize(
    "query",
    [b"", b"rows=0&columns=1", b"rows=a&columns=b", b"rows=10", b"rows=1=2&columns=3", b"\xff&&&", b"rows=9999"],
)
def test_an_odd_size_is_the_usual_one(query: bytes) -> None:
    assert size_in(query) == DEFAULT_SIZE


def test_the_size_of_the_window() -> None:
    assert size_in(b"rows=30&columns=90") == Size(rows=30, columns=90)


def test_every_reason_to_close_is_one_that_the_server_can_send() -> None:
    """autobahn sends 1000 and 3000 to 4999, and raises for anything else: then the window would hang for ever."""
    codes = {getattr(protocol, name) for name in ("ENDED", "LOGGED_OUT", "NOT_YOURS", "REFUSED", "UNAVAILABLE")}
    assert len(codes) == 5
    for code in codes:
        assert 4000 <= code <= 4999
