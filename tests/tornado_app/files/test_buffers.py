"""The pool of buffers: no more than its most, and none is lost for good. The budget of bodies that are kept whole."""

from __future__ import annotations

import pytest

from tornado_app import problems
from tornado_app.files.buffers import MOST, SIZE, Buffers, MemoryBudget


def test_a_buffer_that_is_given_back_is_used_again() -> None:
    pool = Buffers()
    buffer = pool.take()
    assert buffer is not None
    assert len(buffer) == SIZE
    pool.give([memoryview(buffer)[5:9]])
    assert pool.take() is buffer


def test_there_is_a_most_and_what_is_dropped_makes_room() -> None:
    pool = Buffers()
    taken = [pool.take() for _ in range(MOST)]
    assert None not in taken
    assert pool.take() is None
    taken.pop()
    assert pool.take() is not None


def test_anything_may_be_given() -> None:
    pool = Buffers()
    pool.give([b"bytes", memoryview(b"bytes"), memoryview(bytearray(SIZE))])
    assert pool.take() is not None


def test_a_budget_refuses_what_is_too_much_and_counts_it_not() -> None:
    budget = MemoryBudget(10)
    budget.take(7)
    with pytest.raises(problems.ProblemError) as caught:
        budget.take(4)
    assert caught.value.kind is problems.UNAVAILABLE
    assert caught.value.headers["Retry-After"] == "1"
    budget.take(3)
    budget.give(10)
    assert budget.used == 0
