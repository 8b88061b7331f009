"""Small local files written together."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from holdfast._local_files import small_files
from holdfast._local_files.small_files import write_together


@pytest.mark.parametrize("slow", [True, False])
def test_new_files_are_written_and_those_that_exist_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    monkeypatch.setattr(small_files, "_SLOW_SYNC_S", 0.0 if slow else 60.0)
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    names = ["a", "in/b", "there", "link", "there/below", "in/c"]
    found = write_together([(tmp_path / name, name.encode()) for name in names])
    assert [status is not None for status in found] == [True, True, False, False, False, True]
    for name, status in zip(names, found, strict=True):
        if status is not None:
            now = (tmp_path / name).stat()
            assert (now.st_ino, now.st_mtime_ns, now.st_nlink) == (status.st_ino, status.st_mtime_ns, 1)
            assert (tmp_path / name).read_bytes() == name.encode()
    assert (tmp_path / "there").read_text() == "mine"
    assert sorted(os.listdir(tmp_path / "in")) == ["b", "c"]


def test_a_file_that_can_not_be_synced_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = os.fsync, 0

    def fails(number: int) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(number)

    monkeypatch.setattr(os, "fsync", fails)
    found = write_together([(tmp_path / name, b"x") for name in "abc"])
    assert len(os.listdir(tmp_path)) == sum(status is not None for status in found) == 2


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    assert write_together([(tmp_path / "a", b"x" * 20)]) == [None]
    assert os.listdir(tmp_path) == []
