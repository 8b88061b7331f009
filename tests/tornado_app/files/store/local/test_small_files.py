"""Small files published together: how often the disk is waited for, and what happens when it fails."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.store_conformance import content, put
from tornado_app import problems
from tornado_app.files.store.interface import ABSENT, FileDigests, PlacedFile, SmallFile
from tornado_app.files.store.local import small_files
from tornado_app.files.store.local.published import LocalStore

UPLOADS = ".holdfast/uploads"


def many(count: int, folder: str = "a") -> list[SmallFile]:
    return [SmallFile(f"{folder}/{number:03}", b"%d" % number, FileDigests(), ABSENT) for number in range(count)]


class Syncs:
    """Every `os.fsync`, counted by the kind of what is synced; `fails` says which of them fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        self.fails: Callable[[str, int], bool] = lambda kind, count: False
        self._real = os.fsync
        self._lock = threading.Lock()
        patch.setattr(os, "fsync", self._sync)

    def _sync(self, fd: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"
        with self._lock:
            self.counts[kind] += 1
            fails = self.fails(kind, self.counts[kind])
        if fails:
            raise OSError(errno.EIO, "Input/output error")
        self._real(fd)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch, store: LocalStore) -> Syncs:
    store.publish_small([SmallFile("a/there", b""), SmallFile("b/there", b"")])
    return Syncs(monkeypatch)


def test_a_file_is_synced_once_and_a_folder_once_for_all(store: LocalStore, syncs: Syncs) -> None:
    results = store.publish_small([file for pair in zip(many(50), many(50, "b"), strict=True) for file in pair])
    assert all(isinstance(result, PlacedFile) for result in results)
    assert syncs.counts == {"file": 100, "folder": 2}


def test_a_large_number_opens_only_a_group_at_a_time(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_files, "GROUP", 3)
    assert [type(result) for result in store.publish_small(many(10))] == [PlacedFile] * 10
    assert len(store.listing("a/")) == 10


@pytest.mark.parametrize("slow", [True, False])
def test_a_file_that_can_not_be_synced_gets_no_name_and_the_others_do(
    root: Path, store: LocalStore, syncs: Syncs, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    monkeypatch.setattr(small_files, "_SLOW_SYNC_S", 0.0 if slow else 60.0)  # by several threads, or by one
    syncs.fails = lambda kind, count: kind == "file" and count in (2, 5)
    results = store.publish_small(many(8))
    failed = [file.name for file, result in zip(many(8), results, strict=True) if isinstance(result, OSError)]
    assert len(failed) == 2
    assert {stat.name for stat in store.listing("a/0")} == {file.name for file in many(8)} - {*failed}
    assert os.listdir(root / UPLOADS) == []


def test_a_folder_that_can_not_be_synced_fails_all_that_waited(root: Path, store: LocalStore, syncs: Syncs) -> None:
    syncs.fails = lambda kind, count: kind == "folder" and count == 1
    results = store.publish_small([*many(3), SmallFile("b/x", b"x")])
    assert [type(result) for result in results] == [OSError, OSError, OSError, PlacedFile]
    assert os.listdir(root / UPLOADS) == []
    syncs.fails = lambda kind, count: False
    again = store.publish_small([SmallFile(file.name, file.data) for file in many(3)])  # the next attempt makes it true
    assert [type(result) for result in again] == [PlacedFile] * 3


def test_a_full_disk_refuses_what_does_not_fit_and_keeps_the_rest(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = os.write, 0

    def write(fd: int, data: bytes) -> int:
        nonlocal count
        if len(data) == 100:
            count += 1
            if count > 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            if count == 2:
                return real(fd, data[:10])
        return real(fd, data)

    put(store, "f3", b"old")
    monkeypatch.setattr(os, "write", write)
    results = store.publish_small([SmallFile(f"f{number}", b"%d" % number * 100) for number in range(4)])
    monkeypatch.undo()
    kinds = [result.kind if isinstance(result, problems.ProblemError) else None for result in results]
    assert kinds == [None, None, problems.NO_SPACE, problems.NO_SPACE]
    assert [content(store, name) for name in ("f0", "f1", "f3")] == [b"0" * 100, b"1" * 100, b"old"]
    assert [stat.name for stat in store.listing()] == ["f0", "f1", "f3"]
    assert os.listdir(root / UPLOADS) == []


def test_what_is_refused_leaves_no_folder_behind(root: Path, store: LocalStore) -> None:
    (refused,) = store.publish_small([SmallFile("a/b/" + "x" * 300, b"x")])
    assert isinstance(refused, problems.ProblemError)
    assert os.listdir(root) == [".holdfast"]


def test_a_file_system_without_links_publishes_by_renaming(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    results = store.publish_small([SmallFile("a", b"1", expect=ABSENT), SmallFile("a", b"2", expect=ABSENT)])
    assert [type(result) for result in results] == [PlacedFile, problems.ProblemError]
    assert content(store, "a") == b"1"


def test_what_a_crash_left_without_a_name_is_swept_and_a_torn_note_is_no_harm(root: Path, store: LocalStore) -> None:
    for name in (".new-0-0", "..new-0.names.new", ".new-0.names"):
        (root / UPLOADS / name).write_text("[[")
    store.start()
    assert os.listdir(root / UPLOADS) == []


def test_a_note_of_a_name_that_shows_another_file_now_is_no_harm(root: Path, store: LocalStore) -> None:
    put(store, "a", b"another")
    known = store.stat("a")
    note = '[["a",1,7,1,["0","%s",null]],["gone",1,7,1,["0","%s",null]],["a/b",1,7,1,["0","%s",null]]]' % (
        3 * ("0" * 64,)
    )
    (root / UPLOADS / ".new-0.names").write_text(note)
    store.start()
    assert store.stat("a") == known


@pytest.mark.slow
def test_groups_of_several_threads_lose_nothing(store: LocalStore) -> None:
    def publish(number: int) -> None:
        for turn in range(10):
            files = [SmallFile(f"{place}/{number}-{turn}", b"%d" % turn) for place in "abc"]
            assert [type(result) for result in store.publish_small(files)] == [PlacedFile] * 3

    threads = [threading.Thread(target=publish, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.listing()) == 6 * 10 * 3
