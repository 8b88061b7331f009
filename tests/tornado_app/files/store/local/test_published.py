"""The local store: names of others, and many threads that publish and delete at once."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.support.store_conformance import content
from tornado_app import problems
from tornado_app.files.store.interface import ABSENT, UNKNOWN
from tornado_app.files.store.local.published import LocalStore


def test_names_that_nobody_can_ask_for_are_not_listed(root: Path, store: LocalStore) -> None:
    for raw in (b".holdfast/x", b"bad\xff", b"new\nline", b"back\\slash", b"good", b".hidden"):
        (Path(os.fsdecode(os.fsencode(root) + b"/" + raw))).write_bytes(b"")
    assert [found.name for found in store.listing()] == [".hidden", "good"]


def test_of_many_at_once_the_first_wins(store: LocalStore) -> None:
    won: list[int] = []
    lost: list[tuple[int, problems.Kind]] = []
    barrier = threading.Barrier(8)

    def publish(number: int) -> None:
        staged = store.create(f"u{number}", b"")
        staged.write([b"%d" % number])
        barrier.wait()
        try:
            staged.publish("folder/a", UNKNOWN, ABSENT)
            won.append(number)
        except problems.ProblemError as error:
            lost.append((number, error.kind))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert content(store, "folder/a") == b"%d" % won[0]
    assert [kind for _, kind in lost] == [problems.FILE_EXISTS] * 7
    assert all(store.load(f"u{number}").offset == 1 for number, _ in lost)


@pytest.mark.slow
def test_folders_that_come_and_go_at_once_lose_no_file(store: LocalStore) -> None:
    failures: list[BaseException] = []

    def come_and_go(number: int) -> None:
        try:
            for turn in range(40):
                name = f"a/b/c/f{number}"
                staged = store.create(f"u{number}", b"")
                staged.write([b"%d" % turn])
                staged.publish(name, UNKNOWN, ABSENT)
                staged.discard()
                assert content(store, name) == b"%d" % turn
                store.delete(name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.listing() == []
