"""Attempts are counted in a window that slides, for each key apart, and cannot fill the memory."""

from __future__ import annotations

from agents.broker import tries
from agents.broker.tries import Tries


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_so_many_in_the_window_and_then_no_more_until_the_oldest_is_over() -> None:
    clock = Clock()
    counted = Tries(most=3, seconds=60, clock=clock)
    for _ in range(3):
        assert counted.wait("alice") == 0
        counted.count("alice")
        clock.now += 10
    assert counted.wait("alice") == 30
    assert counted.wait("bob") == 0, "others are not held up"
    clock.now += 29.5
    assert counted.wait("alice") == 1
    clock.now += 0.5
    assert counted.wait("alice") == 0


def test_many_names_do_not_fill_the_memory() -> None:
    counted = Tries(most=3, seconds=60)
    for number in range(tries.MOST_KEYS + 50):
        counted.count(str(number))
    assert len(counted._seen) == tries.MOST_KEYS
    assert str(tries.MOST_KEYS + 49) in counted._seen
