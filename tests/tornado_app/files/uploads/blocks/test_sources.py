"""Blocks of a new version that an old one has, at the same place or at another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.digests import SIZE
from tornado_app.files.uploads.blocks import sources
from tornado_app.files.uploads.blocks.sources import Copy

letters = st.text("abcde", max_size=12)


def digests(text: str) -> bytes:
    """A digest for each letter."""
    return b"".join(letter.encode() * SIZE for letter in text)


@given(letters, letters)
def test_every_block_that_the_old_version_has_is_copied_once_and_is_the_right_one(old: str, new: str) -> None:
    copied: dict[int, bytes] = {}
    for copy in sources.plan(digests(old), digests(new)):
        for at in range(copy.end - copy.index):
            part = copy.digests[at * SIZE : (at + 1) * SIZE]
            start = (copy.start + at) * SIZE
            assert digests(old)[start : start + SIZE] == part
            assert copy.index + at not in copied
            copied[copy.index + at] = part
    assert copied == {index: letter.encode() * SIZE for index, letter in enumerate(new) if letter in old}


def test_a_block_is_taken_from_the_same_place_and_neighbours_come_together() -> None:
    assert sources.plan(digests("abab"), digests("abab")) == [Copy(0, 0, digests("abab"))]
    assert sources.plan(digests("abcd"), digests("abXd")) == [Copy(0, 0, digests("ab")), Copy(3, 3, digests("d"))]
    assert sources.plan(digests("abcd"), digests("Xabcd")) == [Copy(0, 1, digests("abcd"))]
    assert sources.plan(b"", digests("ab")) == []
    assert sources.plan(digests("ab"), b"") == []


@given(letters, st.integers(1, 5))
def test_copies_are_split_into_parts_of_at_most_so_many_blocks(new: str, most: int) -> None:
    copies = sources.plan(digests("abc"), digests(new))
    parts = [*sources.split(copies, most)]
    assert all(0 < part.end - part.index <= most for part in parts)
    blocks = [
        (copy.start + at, copy.index + at, copy.digests[at * SIZE :][:SIZE])
        for copy in copies
        for at in range(copy.end - copy.index)
    ]
    assert blocks == [
        (part.start + at, part.index + at, part.digests[at * SIZE :][:SIZE])
        for part in parts
        for at in range(part.end - part.index)
    ]
