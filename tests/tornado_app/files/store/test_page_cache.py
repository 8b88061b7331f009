"""Reads from the page cache return all that was asked for, or refuse; they never wait."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornado_app.files.store import page_cache


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="it is of Linux")
def test_what_was_just_written_is_in_memory(file: int) -> None:
    assert page_cache.read_from_memory(file, 2, 3) == b"234"
    assert page_cache.read_from_memory(file, 0, 0) == b""


@pytest.mark.parametrize("error", [BlockingIOError, OSError])
def test_what_would_wait_is_refused(file: int, monkeypatch: pytest.MonkeyPatch, error: type[OSError]) -> None:
    def refuse(*arguments: object) -> int:
        raise error

    monkeypatch.setattr(os, "preadv", refuse)
    monkeypatch.setattr(page_cache, "lives_in_memory", lambda device: False)
    with pytest.raises(BlockingIOError):
        page_cache.read_from_memory(file, 0, 3)


def test_fewer_bytes_than_asked_for_are_refused(file: int) -> None:
    with pytest.raises(BlockingIOError):
        page_cache.read_from_memory(file, 5, 10)


@pytest.mark.parametrize("most", [1, 1000, 1 << 30])
def test_all_pieces_are_written_in_small_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Also when the disk takes only a part of each step."""
    steps: list[int] = []
    pwritev = os.pwritev

    def write_some(fd: int, step: list[memoryview], offset: int) -> int:
        steps.append(sum(map(len, step)))
        return pwritev(fd, [b"".join(step)[:most]], offset)

    monkeypatch.setattr(os, "pwritev", write_some)
    monkeypatch.setattr(page_cache, "WRITTEN", 100)
    pieces = [b"a" * 250, b"", memoryview(b"b" * 30), *[b"c"] * 200, b"d" * 170]
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    written = page_cache.write(fd, pieces, 5)
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == bytes(5) + b"".join(pieces)
    assert written == (sum(map(len, pieces)), None)
    assert max(steps) <= 100


def test_what_was_written_before_the_disk_was_full_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev

    def until_full(fd: int, step: list[memoryview], offset: int) -> int:
        if offset >= 2 * page_cache.WRITTEN:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwritev(fd, step, offset)

    monkeypatch.setattr(os, "pwritev", until_full)
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    written, error = page_cache.write(fd, [bytes(1 << 20)], 0)
    os.close(fd)
    assert written == 2 * page_cache.WRITTEN
    assert error is not None
    assert error.errno == errno.ENOSPC


def test_writeback_changes_nothing_and_needs_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "file", os.O_RDWR)
    page_cache.begin_writeback(fd, 0, 10)
    page_cache.begin_writeback(fd, 5, 1 << 40)
    os.close(fd)
    page_cache.begin_writeback(-1, 0, 10)  # it is but a hint
    assert (tmp_path / "file").read_bytes() == b"0123456789"
