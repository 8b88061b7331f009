"""Listings of large directories: what a page costs, and that it is never out of date."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tornado_app.files.store.local import listing
from tornado_app.files.store.local.directory import DirectoryTree
from tornado_app.files.store.local.published import LocalStore

MANY = 5000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    found = LocalStore(tmp_path)
    yield found
    found.close()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A folder of many files that was last changed an hour ago."""
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(MANY):
        (folder / f"{number:05d}").touch()
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the number of entries that each reading of a directory has brought."""
    found: list[int] = []
    read = listing.read_entries

    def counted(folder: int) -> list[bytes]:
        entries = read(folder)
        found.append(len(entries))
        return entries

    monkeypatch.setattr(listing, "read_entries", counted)
    return found


def age(monkeypatch: pytest.MonkeyPatch, seconds: float = 3600) -> None:
    """Let the clock stand later than what was written."""
    later = time.time_ns() + int(seconds * 1e9)
    monkeypatch.setattr(listing.time, "time_ns", lambda: later)


@pytest.mark.slow
def test_a_large_folder_is_read_once_for_all_its_pages(
    store: LocalStore, large: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    after, found = "", []
    while page := store.listing("large/", after, 100):
        found += [stat.name for stat in page]
        after = found[-1]
    assert found == [f"large/{number:05d}" for number in range(MANY)]
    assert reads.count(MANY) == 1
    assert [stat.name for stat in store.listing("large/0499", limit=2)] == ["large/04990", "large/04991"]
    assert reads.count(MANY) == 1


@pytest.mark.slow
def test_the_level_above_a_large_folder_does_not_read_it(store: LocalStore, large: Path, reads: list[int]) -> None:
    assert store.level() == ["large/"]
    assert MANY not in reads


@pytest.mark.slow
def test_a_change_is_seen_at_once(store: LocalStore, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    age(monkeypatch)
    for number in range(20):
        assert len(store.listing("large/", "large/04999")) == number
        (large / f"1{number:04d}").touch()
    for number in range(20):
        (large / f"1{number:04d}").unlink()
        assert len(store.listing("large/", "large/04999")) == 19 - number


class WholeSeconds:
    """`os` on a file system that stamps in whole seconds."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fstat(self, fd: int) -> SimpleNamespace:
        status, second = os.fstat(fd), 1_000_000_000
        stamps = {name: getattr(status, name) // second * second for name in ("st_mtime_ns", "st_ctime_ns")}
        return SimpleNamespace(st_dev=status.st_dev, st_ino=status.st_ino, **stamps)


@pytest.mark.slow
def test_a_change_within_a_tick_of_the_clock_is_seen(
    store: LocalStore, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "os", WholeSeconds())
    for number in range(50):
        store.listing("large/", limit=1)
        (large / f"1{number:04d}").touch()
        assert len(store.listing("large/", "large/04999")) == number + 1


@pytest.mark.slow
def test_sorted_names_take_no_more_memory_than_they_may(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    monkeypatch.setattr(listing, "KEPT_BYTES", 60_000)
    folders = [f"folder-{number}" for number in range(6)]
    for folder in folders:
        (tmp_path / folder).mkdir()
        for number in range(1000):
            (tmp_path / folder / f"file-{number:05d}").touch()
    tree = DirectoryTree(tmp_path)
    names = listing.Listing(tree.fd)
    for _ in range(3):
        for folder in folders:
            assert len(list(names.all(folder + "/", ""))) == 1000
            assert 0 < names.kept_bytes <= 60_000
    assert len(list(names.all(folders[-1] + "/", ""))) == 1000
    tree.close()
    assert reads.count(1000) == 18  # the last one was kept


def test_a_folder_is_listed_while_a_file_is_below_it(store: LocalStore, tmp_path: Path) -> None:
    for folder in ("empty/deep/er", "fifo", "loop", "dangling", "hidden", "linked", "full/deep/er"):
        (tmp_path / folder).mkdir(parents=True)
    os.mkfifo(tmp_path / "fifo/x")
    (tmp_path / "loop/x").symlink_to("x")
    (tmp_path / "dangling/x").symlink_to("nowhere")
    (tmp_path / "hidden" / os.fsdecode(b"bad\xff")).touch()
    (tmp_path / "linked/x").symlink_to("../full/deep/er/.x")
    (tmp_path / "full/deep/er/.x").touch()
    assert store.level() == ["full/", "linked/"]
    assert store.level("full/") == ["full/deep/"]
    assert [found.name for found in store.listing()] == ["full/deep/er/.x", "linked/x"]


def test_a_listing_leaves_no_descriptor_open(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    for number in range(20):
        (tmp_path / f"a/b/c/{number}").touch()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        store.listing(limit=3)
        store.level("a/b/c/", limit=3)
        store.level("a/")
        store.level("a/x/")
    assert len(os.listdir("/proc/self/fd")) == before
