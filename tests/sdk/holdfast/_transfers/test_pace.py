"""Rates, piece sizes and the number of connections, on a clock of our own."""

from __future__ import annotations

import pytest

from holdfast._transfers.pace import Growth, Pieces, Rate, Throttle

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_throttle_asks_to_wait_as_long_as_the_bytes_should_take() -> None:
    clock = Clock()
    throttle = Throttle(100, clock)
    assert throttle.delay(50) == pytest.approx(0.5)
    assert throttle.delay(50) == pytest.approx(1.0)
    clock.now += 5
    assert throttle.delay(10) == pytest.approx(0.1)
    assert Throttle(None).delay(10**9) == 0
    assert Throttle(80_000).piece(MIB) == 10_000
    assert Throttle(1).piece(MIB) == 1024
    assert Throttle(1).piece(5) == 5  # never more than the body has left
    assert Throttle().piece(MIB) == MIB


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.at(0) == 0
    for second in range(1, 11):
        clock.now += 1
        rate.at(second * 100)
    assert rate.at(1000) == pytest.approx(100)
    for _ in range(10):
        clock.now += 1
        rate.at(1000)
    assert rate.at(1000) == 0


def test_pieces_grow_on_a_quick_line_and_not_past_what_was_refused() -> None:
    pieces = Pieces()
    first = pieces.size
    pieces.sent(first, 0.1)
    assert pieces.size == 2 * first
    pieces.sent(first, 0.1)
    assert pieces.size == 2 * first, "that one was not full"
    pieces.sent(2 * first, 60)
    assert pieces.size == 2 * first, "that one was slow"
    assert pieces.too_large(MIB)
    assert pieces.size == MIB // 2
    pieces.sent(MIB // 2, 0.1)
    assert pieces.size == MIB // 2
    assert not pieces.too_large(Pieces.SMALLEST)


def test_pieces_shrink_where_nothing_gets_through() -> None:
    pieces = Pieces()
    pieces.broken(0)
    assert pieces.size == Pieces.FIRST
    pieces.broken(0)
    assert pieces.size == Pieces.FIRST // 2
    pieces.broken(5)
    pieces.broken(0)
    assert pieces.size == Pieces.FIRST // 2


def grown(speed: dict[int, float], seconds: float = 60, left: int = 10**12, most: int = 8) -> int:
    """Return the number of connections after a while, when `speed[n]` bytes a second come over n of them."""
    clock, workers, done = Clock(), 1, 0.0
    growth = Growth(most, at_once=False, clock=clock)
    for _ in range(int(seconds * 4)):
        clock.now += 0.25
        done += speed.get(workers, max(speed.values())) / 4
        workers += growth.more(workers, int(done), left)
    return workers


def test_connections_are_added_while_they_pay() -> None:
    assert grown({1: 10 * MIB, 2: 20 * MIB, 4: 40 * MIB, 8: 80 * MIB}) == 8
    assert grown({1: 10 * MIB, 2: 20 * MIB, 4: 20 * MIB}) == 4
    assert grown({1: 10 * MIB, 2: 10 * MIB}) == 2
    assert grown({1: 10 * MIB}, most=1) == 1


def test_what_is_nearly_done_gets_no_more_connections() -> None:
    assert grown({1: 10 * MIB, 2: 20 * MIB}, left=MIB) == 1


def test_a_line_that_stands_still_gets_no_more_connections() -> None:
    assert grown({1: 0.0}) == 1


def test_who_asks_for_so_many_gets_them_at_once() -> None:
    assert Growth(5, at_once=True).more(1, 0, 1) == 4
