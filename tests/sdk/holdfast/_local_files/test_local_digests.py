"""Digests of local blocks beside an independent computation: as bytes pass, by reading, and both."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from holdfast._local_files.local_digests import LocalDigests, PassingBlocks
from holdfast._local_files.sources import BytesSource, FileSource, LocalSource
from holdfast.errors import LocalChanged

MIB = 1 << 20
CONTENT = random.Random(1).randbytes(3 * MIB + 12345)
BLOCKS = b"".join(blake3(CONTENT[at : at + MIB]).digest() for at in range(0, len(CONTENT), MIB))


class Counting(LocalSource):
    """Bytes, and how many of them were read."""

    def __init__(self, data: bytes) -> None:
        self.size: int = len(data)
        self.count = 0
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        found = self._data[offset : offset + size]
        self.count += len(found)
        return found


def all_of(local: LocalDigests) -> bytes:
    while not local.step():
        pass
    return local.blocks()


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, len(CONTENT)])
def test_all_blocks_are_hashed_by_reading(size: int) -> None:
    local = LocalDigests(BytesSource(CONTENT[:size]), size)
    expected = b"".join(blake3(CONTENT[at : min(size, at + MIB)]).digest() for at in range(0, size, MIB))
    assert all_of(local) == expected
    assert local.result() == blake3(expected).digest()


def test_a_range_is_hashed_alone() -> None:
    source = Counting(CONTENT)
    local = LocalDigests(source, source.size)
    assert local.step(1, 2)
    assert [*local.unknown()] == [0, 2, 3]
    assert local.get(1) == BLOCKS[32:64]
    assert source.count == MIB
    assert all_of(local) == BLOCKS
    assert source.count == source.size


@pytest.mark.slow
@given(st.lists(st.integers(1, MIB), min_size=1, max_size=30), st.integers(0, 3 * MIB), st.booleans())
def test_blocks_are_hashed_as_they_pass_and_never_again(sizes: list[int], start: int, again: bool) -> None:
    source = Counting(CONTENT)
    local = LocalDigests(source, source.size)
    for begin in (start, start // 2 if again else start):
        passing, at = PassingBlocks(local), begin
        for size in sizes:
            piece = CONTENT[at : min(at + size, (at // MIB + 1) * MIB)]
            passing.feed(at, piece)
            at += len(piece)
    known = [index for index in range(4) if local.get(index) is not None]
    for index in known:
        assert local.get(index) == BLOCKS[index * 32 : index * 32 + 32]
    assert all_of(local) == BLOCKS
    assert source.count == sum(min(MIB, source.size - index * MIB) for index in range(4) if index not in known)


def test_every_block_that_passed_whole_is_known() -> None:
    source = Counting(CONTENT)
    local = LocalDigests(source, source.size)
    passing = PassingBlocks(local)
    for at in range(0, len(CONTENT), 262144):
        passing.feed(at, CONTENT[at : at + 262144])
    assert all_of(local) == BLOCKS
    assert source.count == 0


def test_a_source_that_has_become_shorter_is_an_error() -> None:
    local = LocalDigests(BytesSource(b"short"), 100)
    with pytest.raises(LocalChanged, match="95 bytes early"):
        local.step()


def test_a_forgotten_block_is_hashed_again() -> None:
    local = LocalDigests(BytesSource(CONTENT), len(CONTENT))
    assert local.step()
    local.set(0, b"x" * 32)
    local.forget(0)
    assert [*local.unknown()] == [0]
    assert local.step()
    assert local.result() == blake3(BLOCKS).digest()


def test_a_file_that_changes_is_not_hashed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    source = FileSource(path).stat()
    path.write_bytes(CONTENT[:-1])
    assert source.has_changed()
    with pytest.raises(LocalChanged):
        LocalDigests(source, len(CONTENT)).step()
    source.close()
