"""The open files directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornado_app import problems
from tornado_app.files.store.local.digest_index import DigestRecord
from tornado_app.files.store.local.root import Root


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    (tmp_path / "file").write_bytes(b"content")
    root = Root(tmp_path)
    yield root
    os.close(root.uploads)
    root.close()


def test_nothing_is_described_at_once_that_was_not_described_before(root: Root, tmp_path: Path) -> None:
    status = (tmp_path / "file").stat()
    assert root.describe_at_once("file", status) is None
    assert root.describe_at_once("file", status) is None
    described = root.describe("file", status)
    assert root.describe_at_once("file", status) == described


def test_a_digest_that_becomes_known_is_described_at_once(root: Root, tmp_path: Path) -> None:
    status = (tmp_path / "file").stat()
    root.describe("file", status)
    root.digests.record(status, DigestRecord("tag", "ab" * 32, None))
    described = root.describe_at_once("file", status)
    assert described is not None
    assert (described.etag, described.sha256) == ("tag", "ab" * 32)


def test_another_version_is_not_described_at_once(root: Root, tmp_path: Path) -> None:
    root.describe("file", (tmp_path / "file").stat())
    (tmp_path / "file").write_bytes(b"other")
    assert root.describe_at_once("file", (tmp_path / "file").stat()) is None


def test_it_has_marks_of_files_without_a_digest_only_where_they_are_made(tmp_path: Path) -> None:
    without = Root(tmp_path)
    assert without.pending is None
    assert not (tmp_path / ".holdfast" / "sha256-pending").exists()
    os.close(without.uploads)
    without.close()
    root = Root(tmp_path, marks_digests=True)
    assert root.pending is not None
    (tmp_path / "a").write_bytes(bytes(100_000))
    root.pending.add((tmp_path / "a").stat(), "a")
    assert len(root.pending) == 1
    os.close(root.uploads)
    root.close()


def test_a_bad_name_is_no_file(tmp_path: Path) -> None:
    root = Root(tmp_path)
    with pytest.raises(problems.ProblemError) as caught:
        root.open("../a")
    assert caught.value.kind is problems.NO_SUCH_FILE
    os.close(root.uploads)
    root.close()
