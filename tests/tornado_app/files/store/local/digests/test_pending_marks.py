"""Marks of files whose SHA-256 is to be made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornado_app.files.store.local.digests.pending_marks import NEVER_MARKED, PendingMarks, key_of
from tornado_app.files.store.local.published import LocalStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "marks"
    path.mkdir()
    return path


@pytest.fixture
def marks(folder: Path) -> Iterator[PendingMarks]:
    found = opened(folder)
    yield found
    found.close()
    found.close()


def opened(folder: Path) -> PendingMarks:
    return PendingMarks(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


def file(tmp_path: Path, name: str, size: int = NEVER_MARKED + 1) -> os.stat_result:
    (tmp_path / name).write_bytes(bytes(size))
    return (tmp_path / name).stat()


def test_a_mark_outlives_the_process(marks: PendingMarks, folder: Path, tmp_path: Path) -> None:
    status = file(tmp_path, "a")
    marks.add(status, "naïve/a")
    later = opened(folder)
    (mark,) = later.first(10, ())
    assert (mark.key, mark.name, len(later)) == (key_of(status), "naïve/a", 1)
    later.close()


def test_a_file_that_is_hashed_in_no_time_is_not_marked(marks: PendingMarks, folder: Path, tmp_path: Path) -> None:
    marks.add(file(tmp_path, "a", NEVER_MARKED), "a")
    assert (len(marks), os.listdir(folder)) == (0, [])


def test_the_oldest_mark_comes_first(marks: PendingMarks, folder: Path, tmp_path: Path) -> None:
    for age, name in enumerate("abc"):
        status = file(tmp_path, name)
        marks.add(status, name)
        os.utime(folder / key_of(status), (1000 - age, 1000 - age))
    assert [mark.name for mark in marks.first(10, ())] == ["c", "b", "a"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"], ids=["empty", "not a name"])
def test_a_mark_that_a_crash_or_somebody_left_unreadable_is_removed(folder: Path, content: bytes) -> None:
    (folder / "abc").write_bytes(content)
    marks = opened(folder)
    assert marks.first(10, ()) == []
    assert (len(marks), os.listdir(folder)) == (0, [])
    marks.close()


def test_what_a_crash_left_half_written_is_no_mark(folder: Path) -> None:
    (folder / ".abc.new").write_bytes(b"nam")
    marks = opened(folder)
    assert (len(marks), marks.first(10, ())) == (0, [])
    marks.close()


def test_a_full_disk_only_costs_the_mark(marks: PendingMarks, folder: Path, tmp_path: Path) -> None:
    status = file(tmp_path, "a")
    (folder / f".{key_of(status)}.new").mkdir()  # in the way, as a full disk is
    marks.add(status, "a")
    assert len(marks) == 0


def test_the_mark_of_a_renamed_file_is_removed_and_that_of_its_name_is_another(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "files", marks_digests=True)
    staged = store.create("one", b"")
    staged.write([bytes(100_000)])
    staged.publish("a")
    staged.discard()
    (mark,) = store.pending_digests(10)
    (tmp_path / "files" / "a").rename(tmp_path / "files" / "b")
    (tmp_path / "files" / "a").write_bytes(b"another")
    assert store.open_pending(mark) is None
    assert store.pending_digests(10) == []
    store.close()
