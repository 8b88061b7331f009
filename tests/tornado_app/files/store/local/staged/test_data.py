"""Staged bytes on a local disk: crashes, file systems that lack something, descriptors and syncs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.store_conformance import content, put, refused
from tornado_app import problems
from tornado_app.files.store import page_cache
from tornado_app.files.store.interface import ABSENT, UNKNOWN, Precondition
from tornado_app.files.store.local import atomic_file
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.store.local.staged import data as staged_data


def test_a_file_system_without_links_publishes_by_renaming(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    put(store, "a", b"1", ABSENT)
    assert refused(put, store, "a", b"2", ABSENT).kind is problems.FILE_EXISTS
    assert content(store, "a") == b"1"


def test_another_error_of_the_disk_is_told_as_it_is(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(OSError, match="Input/output error"):
        put(store, "a", b"1", ABSENT)
    assert store.listing() == []


def test_what_a_crash_left_half_made_is_swept(root: Path, store: LocalStore) -> None:
    for name in (".new-a", ".gone-b"):
        (root / ".holdfast/uploads" / name).mkdir()
        (root / ".holdfast/uploads" / name / "data").write_text("x")
    store.start()
    assert os.listdir(root / ".holdfast/uploads") == []


@pytest.mark.parametrize("way", ["not implemented", "not allowed", "nothing"])
def test_where_the_system_does_not_copy_parts_are_joined_all_the_same(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def copy(*args: object) -> int:
        if way == "nothing":
            return 0
        raise OSError({"not implemented": errno.ENOSYS, "not allowed": errno.EPERM}[way], way)

    monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
    parts = [os.urandom(size) for size in (3 << 20, 0, 5)]
    staged = [store.create(f"p{number}", b"") for number in range(len(parts))]
    for one, data in zip(staged, parts, strict=True):
        one.write([data])
    whole = store.create("whole", b"")
    whole.join(staged)
    assert whole.offset == len(whole.read(0, 1 << 30)) == (3 << 20) + 5
    assert whole.read(0, 1 << 30) == b"".join(parts)


def test_a_commit_that_failed_can_be_rolled_back(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    staged = store.create("u", b"")
    staged.write([b"kept"])
    staged.begin()
    staged.write([b" and refused"])
    with monkeypatch.context() as patched:
        patched.setattr(atomic_file, "remove", fails)
        with pytest.raises(OSError, match="Input/output error"):
            staged.commit()
    staged.rollback()
    assert staged.offset == 4
    staged.write([b" and acknowledged"])
    staged.close()
    assert store.load("u").offset == len(b"kept and acknowledged"), "no mark is left that a start would go back to"


def test_the_disk_begins_to_write_every_byte_but_the_last_ones_once(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(page_cache, "begin_writeback", lambda fd, offset, count: begun.append((offset, count)))
    monkeypatch.setattr(staged_data, "_WRITEBACK", 100)
    staged = store.create("large", b"")
    for size in (30, 60, 30, 10, 350, 20, 99, 1):
        staged.write([bytes(size)])
    ends = [offset + count for offset, count in begun]
    assert [offset for offset, _ in begun] == [0, *ends[:-1]]
    assert ends[-1] == staged.offset // 100 * 100 == 600
    staged.discard()


def test_many_parts_hold_no_descriptors(root: Path, store: LocalStore) -> None:
    parts = [store.create(f"p{number}", b"") for number in range(20)]
    for part in parts:
        part.write([b"x"])
        part.close()
    whole = store.create("whole", b"")
    whole.join(parts)
    paths = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    assert [path for path in paths if path.startswith(f"{root}/.holdfast/uploads/")] == [
        f"{root}/.holdfast/uploads/whole/data"
    ]
    assert whole.offset == 20


def test_a_part_that_is_shorter_than_it_was_is_told(root: Path, store: LocalStore) -> None:
    part, whole = store.create("p", b""), store.create("whole", b"")
    part.write([b"abc"])
    os.truncate(root / ".holdfast/uploads/p/data", 1)
    with pytest.raises(OSError, match="ended early"):
        whole.join([part])
    assert whole.offset == 0


def test_what_is_refused_leaves_no_folder_behind(root: Path, store: LocalStore) -> None:
    staged = store.create("u", b"")
    with pytest.raises(problems.ProblemError) as refusal:
        staged.publish("a/b/f", UNKNOWN, Precondition(present=True))
    assert refusal.value.kind is problems.PRECONDITION_FAILED
    assert not (root / "a").exists()
    assert staged.publish("a/b/f").size == 0


def test_a_published_upload_whose_note_is_lost_is_gone(root: Path, store: LocalStore) -> None:
    store.create("u", b"info").close()
    (root / ".holdfast/uploads" / "u" / "data").unlink()
    with pytest.raises(problems.ProblemError) as refusal:
        store.load("u")
    assert refusal.value.kind is problems.NO_SUCH_UPLOAD


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


class TestDurability:
    """Bytes that an answer promises were synced to the disk before it."""

    @pytest.fixture
    def synced(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The last two segments of the path of everything that was synced."""
        found: list[str] = []
        for name in ("fsync", "fdatasync"):
            sync = getattr(os, name, os.fsync)

            def noted(fd: int, sync: Any = sync) -> None:
                sync(fd)
                found.append("/".join(os.readlink(f"/proc/self/fd/{fd}").split("/")[-2:]))

            monkeypatch.setattr(os, name, noted, raising=False)
        return found

    def test_that_a_transaction_is_committed_or_rolled_back(self, root: Path, synced: list[str]) -> None:
        store = LocalStore(root, durable=True)
        assert [path.rpartition("/")[2] for path in synced] == [
            "files",
            ".holdfast",
            ".holdfast",
        ]  # what the server keeps
        staged = store.create("u", b"")
        staged.write([b"abc"])
        staged.begin()
        synced.clear()
        staged.commit()
        assert synced == ["uploads/u"]  # that the mark is gone
        staged.truncate(1)
        assert synced[1:] == ["u/data"]
        store.close()

    def test_that_bytes_are_there_after_a_crash(self, root: Path, synced: list[str]) -> None:
        store = LocalStore(root, durable=True)
        store.create("u", b"").write([b"abc"])
        synced.clear()
        assert store.load("u").offset == 3
        assert synced == ["u/data"]
        store.close()
