"""Frames survive any cutting, and nothing malformed passes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.terminals import protocol
from agents.terminals.protocol import Frame, FrameDecoder, ProtocolError

KEY = "0123456789abcdef" * 2
controls = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20) | st.booleans(), max_size=5)
frames = st.lists(st.binary(max_size=300) | controls, max_size=10)


def encode(frame: Frame) -> bytes:
    return protocol.bytes_frame(frame) if isinstance(frame, bytes) else protocol.control_frame(frame)


@given(frames=frames, data=st.data())
def test_frames_survive_any_cutting(frames: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode(frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, found = FrameDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found == frames


@given(data=st.binary(max_size=400))
def test_garbage_is_refused_or_incomplete(data: bytes) -> None:
    try:
        found = FrameDecoder().feed(data)
    except ProtocolError:
        return
    assert sum(len(encode(frame)) for frame in found if isinstance(frame, bytes)) <= len(data)


@pytest.mark.parametrize(
    "stream",
    [
        b"X\0\0\0\1a",
        protocol.HEADER.pack(protocol.BYTES, protocol.MOST_PAYLOAD + 1),
        protocol.HEADER.pack(protocol.CONTROL, protocol.MOST_CONTROL + 1),
        protocol.HEADER.pack(protocol.CONTROL, 2) + b"[]",
        protocol.HEADER.pack(protocol.CONTROL, 3) + b"\xff{}",
        protocol.HEADER.pack(protocol.CONTROL, 10_000) + b"[" * 10_000,
    ],
)
def test_malformed_frames_are_refused(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameDecoder().feed(stream)


def test_a_frame_too_long_is_refused_by_its_header() -> None:
    with pytest.raises(ProtocolError):
        protocol.bytes_frame(bytes(protocol.MOST_PAYLOAD + 1))
    with pytest.raises(ProtocolError):
        protocol.control_frame({"a": "x" * protocol.MOST_CONTROL})
    with pytest.raises(ProtocolError):
        protocol.encode_message({"a": "x" * protocol.MOST_MESSAGE})


@pytest.mark.parametrize(
    "changed",
    [
        {"attach": KEY.upper()},
        {"attach": KEY + "\n"},
        {"attach": 7},
        {"viewer": ""},
        {"viewer": "x" * 65},
        {"rows": 0},
        {"rows": True},
        {"columns": 1001},
        {"columns": 8.5},
        {"more": 1},
    ],
)
def test_an_attach_with_anything_odd_is_refused(changed: dict[str, Any]) -> None:
    good = {"attach": KEY, "viewer": "alice", "rows": 24, "columns": 80}
    assert protocol.attach_of(good).agent == KEY
    with pytest.raises(ProtocolError):
        protocol.attach_of(good | changed)


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_json_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError):
        protocol.json_object(json.dumps(value).encode())


def test_a_reason_is_cut() -> None:
    assert len(protocol.reason_of("x" * 5000)) == protocol.MOST_REASON
    with pytest.raises(ProtocolError):
        protocol.reason_of(None)
