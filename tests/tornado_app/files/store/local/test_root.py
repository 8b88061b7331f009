"""The open files directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tornado_app import problems
from tornado_app.files.store.local.root import Root


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
