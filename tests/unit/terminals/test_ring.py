"""The ring keeps the newest bytes at their offsets, and meets the engine's record without showing anything twice."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from agents.terminals.ring import Ring

pieces = st.lists(st.binary(max_size=50), max_size=20)


@given(pieces=pieces)
def test_keeps_the_newest(pieces: list[bytes]) -> None:
    ring = Ring(limit=64)
    for piece in pieces:
        ring.append(piece)
    everything = b"".join(pieces)
    assert ring.end == len(everything)
    assert ring.end - ring.start == min(64, len(everything))
    assert ring.read(ring.start, 1000) == everything[-64:]


@given(pieces=pieces, at=st.integers(0, 63), most=st.integers(1, 64))
def test_reads_by_offset(pieces: list[bytes], at: int, most: int) -> None:
    ring = Ring(limit=64)
    for piece in pieces:
        ring.append(piece)
    position = min(ring.start + at, ring.end)
    assert ring.read(position, most) == b"".join(pieces)[position : position + most]


def test_a_replay_begins_with_the_first_byte_while_that_is_here() -> None:
    ring = Ring(limit=64)
    ring.append(b"one\ntwo\n")
    assert ring.replay_start() == 0


def test_a_replay_of_what_is_cut_begins_at_a_line() -> None:
    ring = Ring(limit=16)
    ring.append(b"\x1b[31mone long line\ntwo\nthree")
    assert ring.read(ring.replay_start(), 100) == b"two\nthree"
    assert ring.read(ring.replay_start(4), 100) == b"hree"


@given(seen=st.integers(0, 200), limit=st.integers(1, 200))
def test_what_was_missed_follows_what_was_seen(seen: int, limit: int) -> None:
    everything = os.urandom(200)  # no part of it comes twice, down to short ones that are looked for at the end
    ring = Ring(limit=limit)
    ring.append(everything[:seen])
    if 0 < min(seen, limit) < 8 and seen > limit:
        return
    assert ring.missing_from(everything) == everything[seen:]


@given(known=st.integers(1, 200), limit=st.integers(8, 200))
def test_a_record_that_lags_behind_adds_nothing(known: int, limit: int) -> None:
    everything = os.urandom(200)
    ring = Ring(limit=limit)
    ring.append(everything)
    record = everything[max(0, known - 8) : known] if limit < 200 else everything[:known]
    if ring.start == 0 or known - 8 >= ring.start:
        assert ring.missing_from(record) == b""


def test_a_record_that_does_not_meet_it_is_said_so() -> None:
    ring = Ring()
    ring.append(b"something else altogether")
    assert ring.missing_from(b"a record") is None


def test_a_prompt_that_repeats_is_not_mistaken() -> None:
    ring = Ring()
    ring.append(b"$ ")
    assert ring.missing_from(b"$ ls\r\nfile\r\n$ ") == b"ls\r\nfile\r\n$ "
