"""Reads from the page cache return all that was asked for, or refuse; they never wait."""

from __future__ import annotations

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
