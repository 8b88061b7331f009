"""The bookkeeping of parallel segments: every byte is brought once, whoever takes and loses what."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast._transfers.segments import ALIGN, Segments, merged


def test_a_fresh_file_is_one_segment_and_is_halved_for_a_second_worker() -> None:
    segments = Segments(100)
    first = segments.take(10)
    assert first is not None
    segments.advance(first, 20)
    second = segments.take(10)
    assert second is not None
    assert (first.at, first.end, second.at, second.end) == (20, 60, 60, 100)
    assert segments.done == [(0, 20)]


def test_what_is_too_short_is_not_halved() -> None:
    segments = Segments(19)
    assert segments.take(10) is not None
    assert segments.take(10) is None


def test_a_segment_that_was_released_is_taken_again_where_it_stands() -> None:
    segments = Segments(10)
    first = segments.take(1)
    assert first is not None
    segments.advance(first, 4)
    segments.release(first)
    again = segments.take(1)
    assert again is first
    assert again.at == 4


def test_bytes_past_the_end_of_a_segment_are_not_counted() -> None:
    segments = Segments(100)
    first = segments.take(1)
    assert first is not None
    segments.take(1)
    assert segments.advance(first, 70) == 50
    assert segments.room(first) == 0
    assert segments.count == 50


def test_an_empty_file_has_nothing_to_take() -> None:
    segments = Segments(0)
    assert segments.take(1) is None
    assert (segments.done, segments.count, segments.frontier) == ([], 0, 0)


def test_what_is_done_already_is_not_taken() -> None:
    segments = Segments(10, [(0, 3), (5, 7)])
    assert (segments.count, segments.frontier) == (5, 3)
    first, second = segments.take(1), segments.take(1)
    assert first is not None
    assert second is not None
    assert [(first.at, first.end), (second.at, second.end)] == [(3, 5), (7, 10)]


def test_ranges_outside_the_file_are_refused() -> None:
    for done in ([(0, 11)], [(-1, 2)]):
        with pytest.raises(ValueError, match="not within"):
            Segments(10, done)


@pytest.mark.slow
@given(
    st.integers(0, 400), st.integers(1, 20), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), max_size=200)
)
def test_every_byte_is_brought_exactly_once(size: int, least: int, steps: list[tuple[int, int]]) -> None:
    segments = Segments(size)
    workers = [segments.take(least) for _ in range(4)]
    brought = bytearray(size)

    def advance(index: int, count: int) -> None:
        segment = workers[index]
        if segment is None or not segments.room(segment):
            if segment is not None:
                segments.release(segment)
            workers[index] = segment = segments.take(least)
        if segment is not None:
            begin = segment.at
            for at in range(begin, segments.advance(segment, count)):
                brought[at] += 1

    for index, count in steps:
        advance(index, count)
        assert [b > 0 for b in brought] == [any(b <= at < e for b, e in segments.done) for at in range(size)]
        assert segments.count == sum(brought)
    for segment in workers:
        if segment is not None:
            segments.release(segment)
    again = Segments(size, segments.done)
    while (segment := again.take(size + 1)) is not None:
        begin = segment.at
        for at in range(begin, again.advance(segment, size)):
            brought[at] += 1
    assert brought == bytes([1]) * size


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_merged_ranges_cover_the_same_bytes(ranges: list[tuple[int, int]]) -> None:
    ordered = [(min(r), max(r)) for r in ranges]
    covered = {at for begin, end in ordered for at in range(begin, end)}
    result = merged(ordered)
    assert {at for begin, end in result for at in range(begin, end)} == covered
    assert all(a[1] < b[0] for a, b in itertools.pairwise(result))


def test_a_long_range_is_halved_between_blocks() -> None:
    segments = Segments(20 * ALIGN + 5)
    first = segments.take(ALIGN)
    assert first is not None
    segments.advance(first, 1000)
    second = segments.take(ALIGN)
    assert second is not None
    assert (first.end, second.begin) == (10 * ALIGN, 10 * ALIGN)
