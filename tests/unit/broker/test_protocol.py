"""The request schema: any JSON is accepted or refused, and what is accepted is what was sent."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.broker import operations, protocol, wire
from agents.broker.protocol import CODES, MOST_MOUNTS, OPERATIONS, Refusal, parse, request
from agents.broker.texts import TEXTS, shown
from agents.engine import api

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = sorted({"op", "v", "extra", *(key for needed, may in OPERATIONS.values() for key in (*needed, *may))})
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
MOUNT = st.fixed_dictionaries({"source": TEXT, "destination": TEXT, "mode": st.sampled_from(["ro", "rw"])})
USER = st.from_regex(r"[a-z@.+_-]{1,20}", fullmatch=True)
LAUNCH = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
SECRETS = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50),
    max_size=5,
)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "web_user": USER,
    "account": st.from_regex(r"[a-z_][a-z0-9_-]{0,30}", fullmatch=True),
    "launch": LAUNCH,
    "mounts": st.lists(MOUNT, max_size=MOST_MOUNTS),
    "password": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50),
    "path": TEXT,
    "prefix": TEXT,
    "most": st.integers(1, 200),
    "pid": st.integers(2, 2**31 - 1),
    "secrets": SECRETS,
    "state": LAUNCH,
    "with_logins": st.booleans(),
}


@st.composite
def good_requests(draw: st.DrawFn) -> dict[str, Any]:
    op = draw(st.sampled_from(sorted(OPERATIONS)))
    needed, optional = OPERATIONS[op]
    chosen = [*needed, *(key for key in optional if draw(st.booleans()))]
    return request(op, **{key: draw(GOOD[key]) for key in chosen})


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(), JSON, max_size=6))
def test_any_object_is_accepted_or_refused_with_a_code(message: dict[str, Any]) -> None:
    _accepted_or_refused(message)


@given(st.sampled_from(sorted(OPERATIONS)), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5))
def test_any_fields_of_a_real_operation_are_accepted_or_refused(op: str, fields: dict[str, Any]) -> None:
    _accepted_or_refused({**fields, "v": 1, "op": op})


def _accepted_or_refused(message: dict[str, Any]) -> None:
    refused = None
    try:
        parse(message)
    except Refusal as refusal:
        refused = refusal
    if refused is not None:
        assert refused.code in {"bad-request", "too-many"}
        wire.encode(refused.reply())


@given(good_requests())
def test_what_is_sent_arrives(message: dict[str, Any]) -> None:
    arrived = parse(wire.decode(wire.encode(message)[4:]))
    assert arrived.op == message["op"]
    for key, value in message.items():
        if key == "mounts":
            assert [vars(mount) for mount in arrived.mounts] == value
        elif key not in {"v", "op"}:
            assert getattr(arrived, key) == value


@given(good_requests(), st.sampled_from(KEYS), JSON)
def test_a_key_of_another_operation_is_refused(message: dict[str, Any], key: str, value: Any) -> None:
    needed, optional = OPERATIONS[message["op"]]
    if key not in (*needed, *optional, "op", "v"):
        with pytest.raises(Refusal):
            parse({**message, key: value})


@given(good_requests(), st.data())
def test_a_missing_key_is_refused(message: dict[str, Any], data: st.DataObject) -> None:
    needed, _ = OPERATIONS[message["op"]]
    gone = data.draw(st.sampled_from([*needed, "op", "v"]))
    with pytest.raises(Refusal):
        parse({key: value for key, value in message.items() if key != gone})


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("identity", {"web_user": ""}),
        ("identity", {"web_user": "a\n"}),
        ("identity", {"web_user": "../x"}),
        ("identity", {"web_user": 7}),
        ("link", {"web_user": "alice", "account": "root:x"}),
        ("link", {"web_user": "alice", "account": "-rf"}),
        ("release", {"launch": "../../etc"}),
        ("release", {"launch": "A" * 32}),
        ("release", {"launch": "a" * 32 + "\n"}),
        ("stage", {"web_user": "alice", "launch": "a" * 32, "mounts": [{"source": "/x", "destination": "/y"}]}),
        ("check", {"web_user": "alice", "mounts": [{"source": "/x", "destination": "/y", "mode": "rwx"}]}),
        ("check", {"web_user": "alice", "mounts": [{"source": "/x", "destination": "/y", "mode": ["ro"]}]}),
        ("admit", {"launch": "a" * 32, "pid": 1, "secrets": {}}),
        ("admit", {"launch": "a" * 32, "pid": True, "secrets": {}}),
        ("admit", {"launch": "a" * 32, "pid": 9, "secrets": {"A B": "x"}}),
        ("admit", {"launch": "a" * 32, "pid": 9, "secrets": {"A": "x\0B=y"}}),
        ("admit", {"launch": "a" * 32, "pid": 9, "secrets": {"A": "\ud800"}}),
        ("list", {"web_user": "alice", "path": "/", "most": 201}),
    ],
)
def test_bad_fields(op: str, fields: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        parse(request(op, **fields))
    assert caught.value.code == "bad-request"


def test_the_number_of_mounts_is_bounded() -> None:
    mounts = [{"source": "/x", "destination": f"/w/{n}", "mode": "ro"} for n in range(MOST_MOUNTS + 1)]
    with pytest.raises(Refusal) as caught:
        parse(request("check", web_user="alice", mounts=mounts))
    assert caught.value.code == "too-many"


def test_another_version_is_refused() -> None:
    with pytest.raises(Refusal, match="v"):
        parse({"v": 2, "op": "staged"})


def test_every_operation_has_a_handler_and_every_client_method_an_operation() -> None:
    assert set(operations.HANDLERS) == set(OPERATIONS)
    methods = {name for name in vars(api.Broker) if not name.startswith("_")} - {"network_ready"}
    assert methods <= set(OPERATIONS)


def test_secrets_do_not_show_in_a_request() -> None:
    assert "hush" not in repr(parse(request("admit", launch="a" * 32, pid=5, secrets={"TOKEN": "hush"})))


@given(st.text())
@example("\u1680\xa0\u3000 ")
def test_what_is_shown_has_no_character_that_hides_or_reorders(text: str) -> None:
    assert shown(text).isprintable()
    assert not set(shown(text)) & set("\n\r\x1b\u202e\u2066\u200b")


def test_every_code_is_a_sentence_with_a_place_to_show_it() -> None:
    for code, (sentence, _) in TEXTS.items():
        assert sentence.endswith("."), code
    for group in (protocol.DESTINATION_CODES, protocol.MODE_CODES, protocol.GENERAL_CODES):
        assert group <= CODES


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.decode(body), dict)


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'{"a":NaN}', b"[]", b"", b"{", b"\xff", b"[" * 50_000])
def test_no_strict_object(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(body)


def test_frames_cross_a_socket_in_pieces_and_too_long_ones_do_not() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frame = wire.encode({"text": "ä" * 10})
        for byte in frame:
            ours.send(bytes([byte]))
        assert wire.receive(theirs) == {"text": "ä" * 10}
        ours.send((10**6).to_bytes(4, "big"))
        with pytest.raises(wire.WireError, match="1000000"):
            wire.receive(theirs)
    with pytest.raises(wire.WireError):
        wire.encode({"text": "x" * 100}, most=50)
