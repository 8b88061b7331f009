"""Files that are open for reading: when they count as changed, and from when on what was read of them is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.store_conformance import put
from tornado_app.files.store.interface import FileDigests
from tornado_app.files.store.local import digest_index
from tornado_app.files.store.local.published import LocalStore

SHA256 = "0" * 64


@pytest.fixture
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of the file system have a tick so coarse that every file is as if it was just written."""
    monkeypatch.setattr(digest_index, "TICK_NS", 1 << 62)


@pytest.mark.usefixtures("always_fresh")
def test_nothing_is_kept_of_a_file_that_may_be_edited_again_unseen(root: Path, store: LocalStore) -> None:
    """Two edits within one tick leave the same size and times: a digest of the first would count for the second."""
    (root / "a").write_bytes(b"12345")
    reader = store.open("a")
    assert store.record_digests(reader, FileDigests(SHA256)) is None
    reader.keep_crc32(7)
    reader.close()
    again = store.open("a")
    assert (again.stat.sha256, again.kept_crc32()) == (None, None)
    again.close()


def test_what_is_read_of_a_file_opened_for_its_digest_is_kept(root: Path, store: LocalStore) -> None:
    (root / "a").write_bytes(b"12345")
    reader = store.open_for_digest("a")
    assert store.record_digests(reader, FileDigests(SHA256)) is not None
    reader.keep_crc32(7)
    reader.close()
    again = store.open("a")
    assert (again.stat.sha256, again.kept_crc32()) == (SHA256, 7)
    again.close()


def test_a_file_opened_at_once_leaves_nothing(root: Path, store: LocalStore) -> None:
    put(store, "a", b"12345")
    reader = store.open_for_digest("a")
    reader.close()
    at_once = store.open_at_once("a")
    if at_once is None:
        pytest.skip("this system can't open files without waiting")
    assert store.record_digests(at_once, FileDigests(SHA256)) is None
    at_once.close()


def test_a_write_is_seen_and_a_mode_is_no_write(root: Path, store: LocalStore) -> None:
    (root / "a").write_bytes(b"12345")
    reader = store.open_for_digest("a")
    (root / "a").chmod(0o600)
    assert not reader.changed()
    with (root / "a").open("r+b") as file:
        file.write(b"54321")
        os.fsync(file.fileno())
    assert reader.changed()
    reader.close()
