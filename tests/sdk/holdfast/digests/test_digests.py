"""Block digests beside an independent computation, and beside `b3sum` on the command line's terms."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from holdfast import digests
from holdfast.digests import BLOCK, BlockHasher

MIB = 1024 * 1024


def computed(data: bytes) -> tuple[bytes, bytes]:
    """The digests of the blocks and of the file, as the definition says, by other code."""
    blocks = b""
    while data:
        block, data = data[:1048576], data[1048576:]
        blocks += blake3(block).digest()
    return blocks, blake3(blocks).digest()


SIZES = [0, 1, 1023, MIB - 1, MIB, MIB + 1, 3 * MIB, 3 * MIB + 7]


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(8).randbytes(4 * MIB)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_in_memory(content: bytes, size: int) -> None:
    assert digests.of_file(content[:size]) == computed(content[:size])[1]
    assert digests.count(size) * 32 == len(computed(content[:size])[0])


def test_the_digest_of_an_empty_file_is_that_of_no_bytes() -> None:
    assert digests.of_file(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [64 * 1024, 300_000, MIB, 3 * MIB])
def test_bytes_in_pieces_of_any_size(content: bytes, size: int, step: int) -> None:
    hasher = BlockHasher()
    hasher.feed([memoryview(content)[at : min(size, at + step)] for at in range(0, size, step)])
    assert (hasher.blocks(), hasher.result()) == computed(content[:size])
    assert hasher.position == size


@given(st.lists(st.integers(0, 4 * MIB), min_size=1, max_size=8))
def test_bytes_that_are_cut_off_and_sent_again(points: list[int]) -> None:
    data = bytes(4 * MIB)
    hasher = BlockHasher()
    for point in points:
        if point > hasher.position:
            hasher.feed([data[hasher.position : point]])
        else:
            at = hasher.cut(point)
            assert 0 <= point - at < BLOCK
            hasher.feed([data[at:point]])
        assert hasher.position == point
    assert hasher.result() == computed(data[: hasher.position])[1]


def test_it_goes_on_from_digests_that_were_kept(content: bytes) -> None:
    hasher = BlockHasher(computed(content[: 2 * MIB])[0])
    assert hasher.position == 2 * MIB
    hasher.feed([content[2 * MIB :]])
    assert hasher.result() == computed(content)[1]


def test_wrong_blocks_are_named(content: bytes) -> None:
    changed = bytearray(content)
    changed[2 * MIB + 5] ^= 1
    right, wrong = computed(content)[0], computed(bytes(changed))[0]
    assert digests.wrong_blocks(wrong, right) == [2]
    assert digests.wrong_blocks(right[:64], right) == [2, 3]
    assert digests.wrong_blocks(right, right) == []


def test_a_proof_needs_the_content_and_the_nonce(content: bytes) -> None:
    nonce, other = bytes(range(32)), bytes(32)
    blocks = [content[at : at + MIB] for at in range(0, 3 * MIB, MIB)]
    proof = digests.of_proof(nonce, blocks)
    assert proof == blake3(content[: 3 * MIB], key=nonce).digest()
    assert proof != digests.of_proof(other, blocks)
    assert proof != digests.of_proof(nonce, blocks[:2])
