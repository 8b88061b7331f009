"""Staged bytes in memory: readers while they grow, entity tags while they change, memory that is full."""

from __future__ import annotations

import threading

import pytest

from tornado_app import problems
from tornado_app.files.store.memory.contents import MemoryContents
from tornado_app.files.store.memory.store import MemoryStore


def test_a_reader_of_a_growing_file_says_that_it_changed() -> None:
    store = MemoryStore()
    staged = store.create("u", b"")
    staged.write([b"one"])
    staged.expose("a")
    reader = store.open("a")
    assert not reader.changed()
    staged.write([b"two"])
    assert reader.changed()
    assert (reader.stat.size, reader.read(0, 99)) == (3, b"one")


@pytest.mark.parametrize("change", ["write", "truncate", "rollback"])
def test_nobody_sees_other_bytes_under_the_same_etag(change: str) -> None:
    """While the bytes have changed and their ETag has not, nobody gets to describe the file."""
    contents = MemoryContents()
    store = MemoryStore(contents)
    staged = store.create("u", b"")
    free: list[bool] = []

    def acquire() -> None:
        free.append(contents.lock.acquire(blocking=False))
        if free[-1]:
            contents.lock.release()

    class Watched(type(contents.uploads["u"].content)):  # type: ignore[misc]
        def touch(self) -> None:
            other = threading.Thread(target=acquire)
            other.start()
            other.join()
            super().touch()

    contents.uploads["u"].content = Watched()
    staged.write([b"one"])
    staged.begin()
    staged.write([b"two"])
    staged.expose("a")
    free.clear()
    before = store.stat("a")
    {
        "write": lambda: staged.write([b"three"]),
        "truncate": lambda: staged.truncate(1),
        "rollback": staged.rollback,
    }[change]()
    assert free == [False]
    after = store.stat("a")
    assert after.size != before.size
    assert after.etag != before.etag


def test_full_memory_is_no_space_and_keeps_what_was_there() -> None:
    class Full(bytearray):
        def __iadd__(self, other: object) -> Full:  # type: ignore[override]
            raise MemoryError

    contents = MemoryContents()
    staged = MemoryStore(contents).create("u", b"")
    staged.write([b"abc"])
    contents.uploads["u"].content.data = Full(b"abc")
    with pytest.raises(problems.ProblemError) as caught:
        staged.write([b"def"])
    assert caught.value.kind is problems.NO_SPACE
    assert staged.offset == 3
