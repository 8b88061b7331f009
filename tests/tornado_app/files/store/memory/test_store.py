"""The store in memory: what it keeps to itself, and what several threads see. `test_interface` runs the whole suite."""

from __future__ import annotations

import threading

from tests.support.store_conformance import content, put
from tornado_app import problems
from tornado_app.files.store.interface import ABSENT, UNKNOWN
from tornado_app.files.store.memory.contents import MemoryContents
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.files.store.optional_powers import HasDescription, HasDescriptor, JoinsParts, ListsFolders


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
