"""The store in memory: what it keeps to itself, and what several threads see. `test_interface` runs the whole suite."""

from __future__ import annotations

import threading

import pytest

from tests.support.store_conformance import content, put
from tornado_app import problems
from tornado_app.files.store.interface import (
    ABSENT,
    UNKNOWN,
    HasDescription,
    HasDescriptor,
    JoinsParts,
    ListsFolders,
)
from tornado_app.files.store.memory import MemoryContents, MemoryStore


def test_two_stores_share_contents_only_when_they_are_told_to() -> None:
    contents = MemoryContents()
    put(MemoryStore(contents), "a", b"shared")
    assert content(MemoryStore(contents), "a") == b"shared"
    assert MemoryStore().listing() == []


def test_it_ends_with_the_process_and_has_few_powers() -> None:
    store = MemoryStore()
    put(store, "a", b"")
    assert not store.is_persistent
    assert not isinstance(store, HasDescription | ListsFolders)
    assert not isinstance(store.open("a"), HasDescriptor)
    assert not isinstance(store.create("u", b""), JoinsParts)


def test_versions_without_a_digest_have_etags_of_their_own() -> None:
    store, etags = MemoryStore(), set()
    for number in range(3):
        staged = store.create(f"u{number}", b"")
        staged.write([b"same"])
        etags.add(staged.publish("a").etag)
    assert len(etags) == 3


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


def test_of_many_threads_that_create_a_file_one_wins_and_none_is_lost_from_the_list() -> None:
    store = MemoryStore()
    won: list[int] = []
    barrier = threading.Barrier(8)

    def publish(number: int) -> None:
        own, shared = store.create(f"own{number}", b""), store.create(f"shared{number}", b"")
        shared.write([b"%d" % number])
        barrier.wait()
        own.publish(f"folder/{number}", UNKNOWN, ABSENT)
        try:
            shared.publish("folder/shared", UNKNOWN, ABSENT)
            won.append(number)
        except problems.ProblemError as error:
            if error.kind is not problems.FILE_EXISTS:
                raise

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert content(store, "folder/shared") == b"%d" % won[0]
    assert [stat.name for stat in store.listing()] == [*(f"folder/{n}" for n in range(8)), "folder/shared"]
