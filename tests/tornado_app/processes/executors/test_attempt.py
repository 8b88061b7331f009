"""Values of an attempt travel: by pickle, by msgspec, and to another process and back."""

from __future__ import annotations

import multiprocessing
import pickle
from typing import Any

import msgspec
import pytest

from tornado_app.processes.executors.attempt import (
    KILLED,
    LONGEST_LINE,
    Attempt,
    Checkpoint,
    Failed,
    Outcome,
    StoppedAttempt,
    Succeeded,
    text_of,
)

VALUES: list[Any] = [
    Attempt("p", "steps", 3, b"{}", b'{"at":1}', rollback=True, code=b"\x80", serial="7", owner="p7", durable=True),
    Attempt("p", "steps", 1, b"{}"),
    Checkpoint(1.0, None, "caf\xe9", b'{"at":1}'),
    StoppedAttempt(),
    Succeeded(b"null"),
    Failed("ValueError", "no such luck", True, "Traceback"),
    KILLED,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_each_can_be_pickled(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_each_can_be_encoded(value: Any) -> None:
    kind = Outcome if isinstance(value, Outcome) else type(value)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind) == value


@pytest.mark.slow
def test_each_comes_back_the_same_from_another_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(echo, VALUES) == VALUES


def echo(value: Any) -> Any:
    return value


def test_text_is_cut_in_its_middle_and_can_be_encoded() -> None:
    assert text_of("a" * 10, 10) == "a" * 10
    assert text_of("ab" * 10_000, LONGEST_LINE).count(" [...] ") == 1
    assert text_of("caf\udce9", 100) == "caf\\udce9"
    assert text_of(42, 100) == "42"


def test_a_value_that_has_no_text_is_named_by_its_type() -> None:
    class Mute:
        def __str__(self) -> str:
            raise ValueError

    assert text_of(Mute(), 100) == "a Mute whose text can't be made: ValueError"
